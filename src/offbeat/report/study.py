"""Reads a study directory: settings x seeds, one run directory each, and study.json, which says what they are for.

<study>/study.json              name, question, compare, seeds, settings (name and configuration each)
<study>/<setting>/seed-<n>/     a run directory
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offbeat.config import RunConfig
from offbeat.errors import ConfigError, RunError
from offbeat.report.read import Group, RunRecord, read_run

STUDY = "study.json"


@dataclass(frozen=True)
class StudyRecord:
    """What a study directory holds.

    compare: pairs (new, old) of settings whose gap is of interest, the main one first.
    groups: one per setting, labelled by its name, of its finished runs; settings without one are left out.
    settings, planned: how many settings and runs the study is to have.
    unfinished, missing: runs (setting/seed-n) that were begun, and those that were not.
    """

    name: str
    question: str
    compare: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    settings: int
    planned: int
    unfinished: tuple[str, ...]
    missing: tuple[str, ...]


def read_study(directory: Path) -> StudyRecord:
    """Read a study. Raises: RunError, one sentence, when study.json or a run is damaged, or no run has finished."""
    plan = _read_plan(directory / STUDY)
    groups, unfinished, missing = [], [], []
    for name, config in plan.settings.items():
        runs: list[RunRecord] = []
        for seed in plan.seeds:
            run = directory / name / f"seed-{seed}"
            if not (run / "config.json").is_file():
                missing.append(f"{name}/{run.name}")
            elif not (run / "summary.json").is_file():
                unfinished.append(f"{name}/{run.name}")
            else:
                runs.append(_read_planned(run, replace(config, seed=seed)))
        if runs:
            groups.append(Group(name, tuple(runs)))
    if not groups:
        raise RunError(f"No run of the study in {directory} has finished yet: wait for the first, then report again.")
    planned = len(plan.settings) * len(plan.seeds)
    return StudyRecord(
        plan.name,
        plan.question,
        plan.compare,
        tuple(groups),
        len(plan.settings),
        planned,
        tuple(unfinished),
        tuple(missing),
    )


@dataclass(frozen=True)
class _Plan:
    name: str
    question: str
    compare: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]
    settings: dict[str, RunConfig]


def _read_plan(path: Path) -> _Plan:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        settings = {str(entry["name"]): RunConfig.from_dict(entry["config"]) for entry in data["settings"]}
        compare = tuple((str(new), str(old)) for new, old in data["compare"])
        plan = _Plan(
            str(data["name"]), str(data["question"]), compare, tuple(int(seed) for seed in data["seeds"]), settings
        )
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): give the directory of a study.") from error
    except ConfigError as error:
        raise RunError(f"{path} holds a setting that cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} does not describe a study ({type(error).__name__}: {error}): run it again.") from error
    unknown = sorted({name for pair in compare for name in pair} - set(settings))
    if unknown:
        raise RunError(f"{path} compares {unknown[0]!r}, which is no setting of it: name one of {', '.join(settings)}.")
    return plan


def _read_planned(directory: Path, config: RunConfig) -> RunRecord:
    """The run in `directory`, which is to be one of `config`: another one's numbers are never mixed in."""
    run = read_run(directory)
    if run.config != config:
        raise RunError(f"{directory} holds a run of another configuration than study.json says: move it elsewhere.")
    return run
