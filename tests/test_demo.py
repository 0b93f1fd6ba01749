"""The demonstration, with children that only pretend to train."""

from __future__ import annotations

import io
import signal
import sys
import time
from pathlib import Path

import pytest
from fake_runs import write_run
from rich.console import Console

from offbeat import demo
from offbeat.config import make_config
from offbeat.demo import SETTINGS, Side, run_command, run_demo, sparkline
from offbeat.errors import ConfigError, RunError

TESTS = Path(__file__).parent

# A child that writes a whole run at once. Arguments: where, setting, schedule, minutes.
WRITES = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from fake_runs import write_run
where, setting, schedule, minutes = sys.argv[1:]
write_run(Path(where), setting=setting, schedule=schedule, minutes=float(minutes), profile="paper")
"""


def _side(tmp_path: Path, name: str = "sequential", minutes: float = 2.0) -> Side:
    config = make_config(SETTINGS[name], scale="cpu", schedule=name, minutes=minutes)
    return Side(name, tmp_path / name, config)


def _pretend(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def command(side: Side) -> list[str]:
        words = (str(side.directory), side.config.setting, side.config.schedule, str(side.config.minutes))
        return [sys.executable, "-c", code, *words]

    monkeypatch.setattr(demo, "run_command", command)
    monkeypatch.setattr(demo, "_make_films", lambda sides: None)
    monkeypatch.setattr(demo, "_POLL_S", 0.02)


def _console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=200), text


def test_sparkline_scales_from_nothing_to_the_highest() -> None:
    assert sparkline([0.0, 50.0, 100.0], 10) == "▁▅█"
    assert sparkline([0.0, 0.0, 8.0, 8.0], 2) == "▁█"
    assert sparkline([], 10) == ""
    assert sparkline([0.0, 0.0], 10) == "▁▁"


def test_the_two_runs_differ_in_schedule_and_setting_alone(tmp_path: Path) -> None:
    commands = [run_command(_side(tmp_path, name)) for name in SETTINGS]
    assert commands[0][1:4] == ["-m", "offbeat", "train"]
    differing = [pair for pair in zip(*commands, strict=True) if pair[0] != pair[1]]
    assert [pair[0] for pair in differing] == ["sync-base", "sequential", str(tmp_path / "sequential")]
    assert {"--scale", "cpu", "--profile", "paper", "--seed", "0", "--minutes", "2"} <= set(commands[0])


def test_a_run_that_was_begun_is_resumed(tmp_path: Path) -> None:
    side = _side(tmp_path)
    side.directory.mkdir()
    (side.directory / "config.json").write_text("{}")
    assert run_command(side)[1:] == ["-m", "offbeat", "resume", str(side.directory)]


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    side = _side(tmp_path)
    side.poll()
    assert side.returns == [] and side.row == {}
    write_run(side.directory, setting="sync-base", minutes=0.5)
    path = side.directory / "episodes.csv"
    path.write_text(path.read_text() + "5,80,12")
    side.poll()
    assert len(side.returns) == 5 and side.row["episode"] == "4"


def test_demo_watches_two_runs_and_writes_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, WRITES)
    console, text = _console()
    page = run_demo(tmp_path / "demo", minutes=1.0, console=console)
    assert page == tmp_path / "demo" / "report.html" and page.is_file()
    said = text.getvalue()
    assert "sequential: 0/10 episodes" in said and "800" in said and "1,500" in said
    assert str(page) in said
    with pytest.raises(RunError, match="already holds a finished demo"):
        run_demo(tmp_path / "demo", minutes=1.0, console=console)


def test_the_terminal_shows_both_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, WRITES)
    text = io.StringIO()
    run_demo(tmp_path / "demo", minutes=1.0, console=Console(file=text, width=100, force_terminal=True))
    assert any("sequential" in line and "asynchronous" in line for line in text.getvalue().splitlines())
    assert "response time" in text.getvalue()


def test_finished_runs_are_kept_and_only_the_report_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "raise SystemExit('nothing is to be run')")
    for name, setting in SETTINGS.items():
        write_run(tmp_path / name, setting=setting, schedule=name, minutes=1.0)
    before = (tmp_path / "sequential" / "cycles.bin").stat().st_mtime_ns
    console, _ = _console()
    assert run_demo(tmp_path, minutes=1.0, console=console).is_file()
    assert (tmp_path / "sequential" / "cycles.bin").stat().st_mtime_ns == before


def test_another_demo_in_the_same_place_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "sequential", setting="sync-base", minutes=1.0)
    with pytest.raises(RunError, match=r"holds a demo with minutes 1\.0, not 3\.0"):
        run_demo(tmp_path, minutes=3.0)
    with pytest.raises(RunError, match="holds a demo with seed 0, not 4"):
        run_demo(tmp_path, minutes=1.0, seed=4)


def test_a_place_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sequential").mkdir()
    (tmp_path / "sequential" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["sequential", "thesis.txt"]


def test_negative_minutes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="minutes is -1"):
        run_demo(tmp_path / "demo", minutes=-1)
    assert not (tmp_path / "demo").exists()


def test_a_failing_run_gives_its_own_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "import sys, time; print('No camera.', file=sys.stderr); sys.exit(2)")
    console, _ = _console()
    with pytest.raises(RunError, match=r"The (sequential|asynchronous) run failed: No camera\."):
        run_demo(tmp_path / "demo", minutes=1.0, console=console)


def test_ctrl_c_ends_both_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "import time; time.sleep(60)")
    sides: list[Side] = []
    start = demo._start

    def started(side: Side) -> None:
        start(side)
        sides.append(side)

    def interrupted(*_: object) -> None:
        time.sleep(0.3)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(demo, "_start", started)
    monkeypatch.setattr(demo, "_watch", interrupted)
    console, _ = _console()
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "demo", minutes=1.0, console=console)
    assert [side.process.poll() is not None for side in sides if side.process] == [True, True]
