"""The film: its pictures, its file, and the timing the filmed policy plays under."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offbeat import film
from offbeat.config import make_config
from offbeat.errors import RunError
from offbeat.film import Moment, compose, count_pictures, main, make_film, outline, play, write_film
from offbeat.timing.profile import Stage

RED = (220, 20, 60)


class ClockThatListens:
    """Notes every stage it is asked to charge."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def now(self) -> float:
        return 0.0

    def sleep_until(self, deadline_s: float) -> float:
        return 0.0

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        self.seen.append(stage.value)
        return nullcontext()


class EnvOfSteps:
    """An environment of `steps` cycles; notes each command in the clock's list."""

    def __init__(self, steps: int, clock: ClockThatListens) -> None:
        self._steps, self._clock, self._left, self.closed = steps, clock, steps, False

    def reset(self) -> tuple[Any, dict[str, Any]]:
        self._left = self._steps
        return self._observation(), {}

    def send(self, action: Any) -> None:
        self._clock.seen.append("send")

    def receive(self) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return self._observation(), 2.0, False, self._left == 0, {"response_s": 0.003}

    def render(self) -> Any:
        return np.full((36, 48, 3), 90, np.uint8)

    def close(self) -> None:
        self.closed = True

    @staticmethod
    def _observation() -> dict[str, Any]:
        image = np.zeros((36, 64, 9), np.uint8)
        image[10:20, 20:30, -3:] = RED
        return {"image": image, "proprioception": np.zeros(21, np.float32)}


class PolicyThatRests:
    """Always answers with zeros, and only ever deterministically."""

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        assert deterministic
        return np.zeros(7, np.float32)


def _moment() -> Moment:
    wrist = np.zeros((36, 64, 3), np.uint8)
    wrist[10:20, 20:30] = RED
    return Moment(np.full((360, 480, 3), 90, np.uint8), wrist, 1.5, 42.0, 0.058)


@pytest.mark.parametrize(
    ("schedule", "cycle"),
    [
        ("sequential", ["store", "sample", "update", "act", "send"]),
        ("reactive", ["act", "send", "store", "sample", "update"]),
        ("asynchronous", ["act", "send", "store"]),
    ],
)
def test_the_policy_plays_at_the_response_time_of_its_schedule(schedule: str, cycle: list[str]) -> None:
    clock = ClockThatListens()
    config = make_config("sync-base", scale="cpu", schedule=schedule)
    moments = list(play(config, EnvOfSteps(4, clock), PolicyThatRests(), clock))
    first = [name for name in cycle if schedule != "sequential" or name in ("act", "send")]
    assert clock.seen == first + 3 * cycle
    assert [moment.return_ for moment in moments] == [2.0, 4.0, 6.0, 8.0]
    assert [moment.time_s for moment in moments] == pytest.approx([0.075, 0.15, 0.225, 0.3])


def test_short_cycles_are_not_all_drawn() -> None:
    clock = ClockThatListens()
    config = make_config("async-base", scale="cpu")
    assert len(list(play(config, EnvOfSteps(10, clock), PolicyThatRests(), clock))) == 5


def test_outline_marks_the_bags_border_only() -> None:
    grown = outline(_moment().wrist, 640, 360)
    assert grown.shape == (360, 640, 3)
    assert tuple(grown[150, 250]) == RED  # inside the bag
    assert tuple(grown[50, 50]) == (0, 0, 0)  # outside it
    assert tuple(grown[150, 200]) not in (RED, (0, 0, 0))  # its left border


def test_a_picture_has_the_size_asked_for_and_three_parts() -> None:
    picture = compose(_moment(), (480, 220), "sequential")
    assert picture.shape == (220, 480, 3) and picture.dtype == np.uint8
    assert tuple(picture[90, 120]) == (90, 90, 90)  # the scene
    assert (picture[:, 240:] == RED).all(axis=-1).any()  # the bag
    assert picture[195:].max() > 200  # the caption


def test_a_film_decodes_to_what_was_written(tmp_path: Path) -> None:
    pictures = [compose(_moment(), (320, 144), "sequential")] * 12
    path = write_film(pictures, tmp_path / "deep" / "film.webm", 12.5)
    assert path.suffix in (".webm", ".webp") and 0 < path.stat().st_size < film.LARGEST_BYTES
    if path.suffix == ".webm":
        assert count_pictures(path) == 12


def test_without_webm_the_film_is_an_animated_webp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(film, "_write_webm", lambda *_: None)
    pictures = [np.full((40, 60, 3), value, np.uint8) for value in (0, 120, 240)]
    path = write_film(pictures, tmp_path / "film.webm", 10)
    assert path == tmp_path / "film.webp" and not (tmp_path / "film.webm").exists()
    with image.open(path) as opened:
        assert opened.n_frames == 3 and opened.size == (60, 40)


def test_a_film_that_is_too_large_is_written_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (160, 240, 3), dtype=np.uint8) for _ in range(6)]
    large = write_film(pictures, tmp_path / "large.webm", 10).stat().st_size
    monkeypatch.setattr(film, "LARGEST_BYTES", large - 1)
    assert write_film(pictures, tmp_path / "small.webm", 10).stat().st_size < large


def test_make_film_closes_the_environment_and_films_every_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ClockThatListens()
    env = EnvOfSteps(4, clock)
    config = make_config("sync-base", scale="cpu")
    monkeypatch.setattr("offbeat.run.build_player", lambda directory, seed: (config, env, PolicyThatRests(), clock))
    path = make_film(tmp_path, tmp_path / "film.webm", episodes=2, size=(320, 144))
    assert env.closed and path is not None
    assert path.suffix != ".webm" or count_pictures(path) == 8


def test_a_dry_run_has_no_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ClockThatListens()
    config = make_config("sync-base", scale="cpu", dry=True)
    env = EnvOfSteps(1, clock)
    monkeypatch.setattr("offbeat.run.build_player", lambda directory, seed: (config, env, None, clock))
    assert make_film(tmp_path, tmp_path / "film.webm") is None
    assert not (tmp_path / "film.webm").exists()


def test_a_directory_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        make_film(tmp_path, tmp_path / "film.webm")
    assert main([str(tmp_path), str(tmp_path / "film.webm")]) == 2
