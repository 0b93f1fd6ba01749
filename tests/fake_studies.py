"""Small studies, and what carries them out in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offbeat.config import RunConfig
from offbeat.studies import worker
from offbeat.studies.plan import Study, StudyRun, StudySetting, make_setting
from offbeat.studies.runner import Outcome, run_study

TINY = {
    "scale": "cpu", "minutes": 8 * 0.4 / 60, "warmup_s": 0.5, "replay_s": 0.8, "checkpoint_episodes": 2,
    "profile": "constant:act=3,store=0,sample=2,update=11", "env.episode_s": 0.4, "env.fast_reset": True,
    "env.reset_s": 0.1, "sac.batch_size": 4, "sac.filters": 4, "sac.hidden": [16, 16],
}  # fmt: skip


def tiny(**changes: Any) -> RunConfig:
    return make_setting(TINY | {name.replace("__", "."): value for name, value in changes.items()})


def make_study(*names: str, seeds: tuple[int, ...] = (0, 1), **changes: Any) -> Study:
    schedules = {"reactive": "reactive", "asynchronous": "asynchronous"}
    settings = [StudySetting(name, tiny(schedule=schedules.get(name, "sequential"), **changes)) for name in names]
    return Study("mine", "Which is best?", tuple(settings), seeds)


class Here:
    """Carries out runs in this process; `breaks`: runs that fail, by name."""

    def __init__(self, out: Path, breaks: Mapping[str, str] | None = None) -> None:
        self.jobs, self._out, self._breaks = 1, out, breaks or {}
        self.started: list[str] = []
        self._ended: list[tuple[StudyRun, str | None]] = []

    def start(self, run: StudyRun) -> None:
        self.started.append(str(run))
        reason = self._breaks.get(str(run))
        if reason is None:
            worker.carry_out(run.config, self._out / run.directory)
        self._ended.append((run, reason))

    def wait(self, timeout_s: float) -> list[tuple[StudyRun, str | None]]:
        ended, self._ended = self._ended, []
        return ended

    def progress(self) -> None:
        return None

    def stop(self) -> None:
        pass


def run_here(
    study: Study, out: Path, breaks: Mapping[str, str] | None = None, **more: Any
) -> tuple[Outcome, list[str]]:
    """The outcome, and which runs were started."""
    here = Here(out, breaks)
    return run_study(study, out, 1, workplace=lambda: here, **more), here.started


def contents(out: Path) -> dict[str, Any]:
    """Every file of a study, wall time left out."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        found[name] = path.read_bytes()
        if path.name == "summary.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "wall_s"}
    return found


def assert_same(one: Path, other: Path) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
