"""The paper's own records: 100 runs of a real robot, from the CSV files of the study's public figures.

returns.csv               setting, seed, episode, steps, return                  every episode of every run
updates.csv               setting, seed, episode, steps_total, updates_total     beside it, if there (Figure 7)
stage_time_quantiles.csv  setting, stage, percentile, ms, n, mean_ms             beside it, if there (Figure 5)

The package itself carries a small summary of them, made by `python benchmarks/make_paper_returns.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.config import make_config
from offbeat.errors import RunError
from offbeat.report.cycles import StageTime
from offbeat.report.results import Results
from offbeat.report.statistics import Array, band
from offbeat.timing.profile import Stage

SETTINGS = {
    "async_base": "async-base",
    "async_highres": "async-highres",
    "sync_base": "sync-base",
    "sync_highres": "sync-highres",
}
"""The settings' names in the records and here."""

COMPARE = (("async-base", "sync-base"), ("async-highres", "sync-highres"), ("async-highres", "sync-base"))
"""The gaps that the paper's conclusion speaks of (new, old)."""

POINT_EPISODES = 10
"""Episodes in one point of the package's summary of the learning curves: one minute of training."""

_STAGES = {"agent_ms": Stage.ACT, "sample_ms": Stage.SAMPLE, "update_ms": Stage.UPDATE}


@dataclass(frozen=True)
class PaperRecords:
    """The paper's runs. stages: stage times by setting, of the settings that were timed; empty without their file."""

    results: tuple[Results, ...]
    stages: Mapping[str, Mapping[Stage, StageTime]]


def read_paper(path: Path) -> PaperRecords:
    """Read returns.csv and what lies beside it. Raises: RunError, one sentence, when a file is damaged or another."""
    columns = _read_columns(path, {"setting": str, "seed": int, "episode": int, "steps": int, "return": float})
    updates_path, stages_path = path.with_name("updates.csv"), path.with_name("stage_time_quantiles.csv")
    updates = _read_updates(updates_path) if updates_path.is_file() else {}
    stages = _read_stages(stages_path) if stages_path.is_file() else {}
    unknown = sorted(set(columns["setting"].tolist()) - set(SETTINGS))
    if unknown:
        raise RunError(f"{path} holds a setting {unknown[0]!r}: the paper's are {', '.join(SETTINGS)}.")
    results = []
    for recorded, name in SETTINGS.items():
        rows = {key: values[columns["setting"] == recorded] for key, values in columns.items()}
        if len(rows["seed"]):
            results.append(_setting_results(path, name, rows, updates.get(recorded, [])))
    return PaperRecords(tuple(results), {SETTINGS[key]: times for key, times in stages.items() if key in SETTINGS})


def curve_points(results: Results) -> list[tuple[float, float, float, float]]:
    """The learning curve in points of `POINT_EPISODES` episodes: minutes, mean, and the ends of its 95% interval."""
    runs, episodes = results.returns.shape
    count = episodes // POINT_EPISODES
    blocks = results.returns[:, : count * POINT_EPISODES].reshape(runs, count, POINT_EPISODES).mean(axis=2)
    ends = results.training_s[POINT_EPISODES - 1 :: POINT_EPISODES][:count]
    minutes = (ends - ends[0] / 2) / 60
    sample = results.sample(blocks)
    low, high = band(sample)
    return list(zip(minutes.tolist(), sample.mean.tolist(), low.tolist(), high.tolist(), strict=True))


@cache
def paper_curve(setting: str) -> tuple[Array, Array, Array, Array] | None:
    """The real robot's learning curve of one of the paper's settings, 25 runs (Figure 6).

    Returns minutes of training time, mean return and the ends of its 95% interval, one entry per ten episodes; None
    for a setting that the paper does not have.
    """
    text = files("offbeat.report").joinpath("data/paper_returns.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["setting"] == setting]
    if not rows:
        return None
    minutes, mean, low, high = (
        np.array([float(row[name]) for row in rows]) for name in ("minutes", "mean", "low95", "high95")
    )
    return minutes, mean, low, high


def _setting_results(path: Path, name: str, rows: Mapping[str, NDArray[Any]], updates: Sequence[float]) -> Results:
    """The runs of one setting out of its rows, in whatever order these stand."""
    seeds = np.unique(rows["seed"])
    order = np.lexsort((rows["episode"], rows["seed"]))
    count = len(order) // len(seeds)
    expected = np.tile(np.arange(count), len(seeds))
    same = len(order) == len(expected) and np.array_equal(rows["episode"][order], expected)
    if not same or not np.array_equal(rows["seed"][order], np.repeat(seeds, count)):
        raise RunError(f"{path} does not hold every episode of every {name} run once: get the file again.")
    config = make_config(name, preset="paper")
    return Results(
        name=name,
        schedule=config.schedule,
        seeds=tuple(seeds.tolist()),
        returns=rows["return"][order].reshape(len(seeds), count),
        training_s=np.arange(1.0, count + 1) * config.env.episode_s,
        steps=rows["steps"][order].reshape(len(seeds), count).sum(axis=1).astype(np.float64),
        updates=np.asarray(updates, np.float64),
        response_ms=None,
        reference=None,  # these are the real robot's
    )


def _read_updates(path: Path) -> dict[str, list[float]]:
    """Gradient updates of every run that logged them, by the setting's recorded name."""
    columns = _read_columns(path, {"setting": str, "seed": int, "episode": int, "updates_total": float})
    last: dict[tuple[str, int], tuple[int, float]] = {}
    for setting, seed, episode, total in zip(*(values.tolist() for values in columns.values()), strict=True):
        if episode >= last.get((setting, seed), (-1, 0.0))[0]:
            last[setting, seed] = (episode, total)
    totals: dict[str, list[float]] = {}
    for (setting, _), (_, total) in sorted(last.items()):
        totals.setdefault(setting, []).append(total)
    return totals


def _read_stages(path: Path) -> dict[str, dict[Stage, StageTime]]:
    """Stage times by the setting's recorded name."""
    kinds = {"setting": str, "stage": str, "percentile": float, "ms": float, "n": int, "mean_ms": float}
    columns = [values.tolist() for values in _read_columns(path, kinds).values()]
    tables: dict[tuple[str, Stage], dict[float, tuple[float, int, float]]] = {}
    for setting, stage, percentile, ms, count, mean_ms in zip(*columns, strict=True):
        if stage in _STAGES:
            tables.setdefault((setting, _STAGES[stage]), {})[percentile] = (ms, count, mean_ms)
    times: dict[str, dict[Stage, StageTime]] = {}
    for (setting, stage), table in sorted(tables.items(), key=lambda item: list(Stage).index(item[0][1])):
        if not {50.0, 99.0} <= set(table):
            raise RunError(f"{path} lacks the percentiles 50 and 99 of {setting}: get the file again.")
        times.setdefault(setting, {})[stage] = StageTime(table[50.0][1], table[50.0][2], table[50.0][0], table[99.0][0])
    return times


def _read_columns(path: Path, kinds: Mapping[str, type]) -> dict[str, NDArray[Any]]:
    """The named columns of a CSV file, one array each. Raises: RunError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            places = [header.index(name) if name in header else -1 for name in kinds]
            if -1 in places:
                missing = list(kinds)[places.index(-1)]
                raise RunError(f"{path} has no column {missing!r}: give a file with the columns {', '.join(kinds)}.")
            rows = [row for row in reader if row]
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): give a file with {', '.join(kinds)}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} is no CSV file ({error}): give one with the columns {', '.join(kinds)}.") from error
    if not rows:
        raise RunError(f"{path} holds no rows: get the file again.")
    columns = {}
    for (name, kind), place in zip(kinds.items(), places, strict=True):
        try:
            columns[name] = np.array([kind(row[place]) for row in rows])
        except (IndexError, ValueError) as error:
            raise RunError(f"{path} is damaged (column {name}: {error}): get the file again.") from error
        if kind is float and not np.isfinite(columns[name]).all():
            raise RunError(f"{path} is damaged (column {name} holds something that is no number): get the file again.")
    return columns
