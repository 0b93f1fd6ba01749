"""What a report is about: run directories, a study, or the paper's own records, put into one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offbeat.config import make_config
from offbeat.errors import RunError
from offbeat.report.cycles import StageTime, stage_summary
from offbeat.report.paper import COMPARE, read_paper
from offbeat.report.read import Group, group_runs, read_runs
from offbeat.report.results import Results, group_results
from offbeat.report.study import STUDY, StudyRecord, read_study
from offbeat.report.table import describe
from offbeat.timing.profile import Stage


@dataclass(frozen=True)
class StageBar:
    """One bar of Figure 5: a setting's name and schedule, its action cycle (ms), and the times of its stages."""

    name: str
    schedule: str
    cycle_ms: float
    times: Mapping[Stage, StageTime]


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    title, lead: heading and opening sentences of the page. results: one per setting, in the order they are shown.
    groups: the run directories behind them, () for the paper's records. stages: of the settings that were timed.
    compare: pairs (new, old) of settings, the main gap first.
    replicated: whether settings are what it is about (several seeds), rather than single runs.
    """

    title: str
    lead: tuple[str, ...]
    results: tuple[Results, ...]
    groups: tuple[Group, ...]
    stages: tuple[StageBar, ...]
    compare: tuple[tuple[str, str], ...]
    replicated: bool


def read_subject(paths: Sequence[Path | str]) -> Subject:
    """Read what is to be reported on: run directories, one study directory, or one CSV file of the paper's returns.

    Raises: RunError, one sentence, for what is missing, damaged, or neither.
    """
    given = [Path(path) for path in paths]
    special = [path for path in given if path.is_file() or path.suffix == ".csv" or (path / STUDY).is_file()]
    if not special:
        return _runs_subject(group_runs(read_runs(given)))
    if len(given) > 1:
        raise RunError(f"{special[0]} is reported on alone: give it without the other {len(given) - 1}.")
    path = special[0]
    if (path / "runs.jsonl").is_file():
        raise RunError(f"{path} is a study's archive: `offbeat report {path} --out DIR` reports on it, in another DIR.")
    return _study_subject(read_study(path)) if path.is_dir() else _paper_subject(path)


def _runs_subject(groups: tuple[Group, ...]) -> Subject:
    return Subject(
        title="Learning while the robot moves",
        lead=tuple(describe(groups)),
        results=tuple(group_results(group) for group in groups),
        groups=groups,
        stages=_stage_bars(groups),
        compare=(),
        replicated=any(len(group.runs) > 1 for group in groups),
    )


def _study_subject(study: StudyRecord) -> Subject:
    finished = sum(len(group.runs) for group in study.groups)
    counts = [f"{study.settings} settings, {finished} of {study.planned} runs finished."]
    for what, runs in (("Not finished yet, and left out", study.unfinished), ("Not begun", study.missing)):
        if runs:
            names = ", ".join(runs[:6]) + (f" and {len(runs) - 6} more" if len(runs) > 6 else "")
            counts.append(f"{what}: {len(runs)} ({names}).")
    return Subject(
        title=f"Study: {study.name}",
        lead=(study.question, " ".join(counts)),
        results=tuple(group_results(group) for group in study.groups),
        groups=study.groups,
        stages=_stage_bars(study.groups),
        compare=study.compare,
        replicated=True,
    )


def _paper_subject(path: Path) -> Subject:
    records = read_paper(path)
    configs = {results.name: make_config(results.name, preset="paper") for results in records.results}
    runs = sum(results.runs for results in records.results)
    return Subject(
        title="The paper's runs on a real robot",
        lead=(
            f"{runs} runs of {records.results[0].training_s[-1] / 60:g} minutes on a Franka Panda, in "
            f"{len(records.results)} settings, recomputed from the authors' public records ({path.name}). The robot is "
            "to bring the camera at its wrist close to a red bag.",
        ),
        results=records.results,
        groups=(),
        stages=tuple(
            StageBar(name, configs[name].schedule, configs[name].env.cycle_s * 1e3, times)
            for name, times in records.stages.items()
            if name in configs
        ),
        compare=COMPARE,
        replicated=True,
    )


def _stage_bars(groups: Sequence[Group]) -> tuple[StageBar, ...]:
    bars = (StageBar(g.label, g.schedule, g.config.env.cycle_s * 1e3, stage_summary(g)) for g in groups)
    return tuple(bar for bar in bars if bar.times)
