"""The studies that come with offbeat: the paper's comparison, why it came out so, and its three open questions.

Each is a function (scale, minutes, seeds) -> Study; `NAMED` says what it asks and how long it should run at least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from offbeat.studies.plan import Study, StudySetting, make_setting

_A, _S = "async-base", "sync-base"  # the settings whose gap is the paper's result
_A_CYCLE_S, _S_CYCLE_S = 0.040, 0.075
_SETTINGS = (_A, "async-highres", _S, "sync-highres")


Planned = tuple[tuple[StudySetting, ...], tuple[tuple[str, str], ...]]
"""The settings of a study, and the pairs of them that are compared."""


@dataclass(frozen=True)
class NamedStudy:
    """A study by name. question: one sentence. minutes, seeds: of each run and setting where a user says neither."""

    question: str
    minutes: float
    seeds: int
    make: Callable[[str, float], Planned]


def make_named(name: str, scale: str = "cpu", minutes: float | None = None, seeds: int | None = None) -> Study:
    """A study by its name, one of `NAMED`. Raises: ConfigError when a value cannot be run."""
    named = NAMED[name]
    settings, compare = named.make(scale, named.minutes if minutes is None else minutes)
    return Study(name, named.question, settings, tuple(range(named.seeds if seeds is None else seeds)), compare)


def _make(scale: str, minutes: float, changes: Mapping[str, dict[str, Any]]) -> tuple[StudySetting, ...]:
    common = {"scale": scale, "minutes": minutes}
    return tuple(StudySetting(name, make_setting(common | own)) for name, own in changes.items())


def _paper(setting: str, **changes: Any) -> dict[str, Any]:
    return {"setting": setting, "preset": "paper", **changes}


_OURS = {"setting": _A}  # what a user should run today: the default preset, asynchronous


def _make_paper(scale: str, minutes: float) -> Planned:
    settings = {setting: _paper(setting) for setting in _SETTINGS}
    settings |= {"ours-asynchronous": _OURS, "ours-reactive": {"setting": _S, "schedule": "reactive"}}
    compare = [
        (_A, _S),
        ("async-highres", "sync-highres"),
        ("async-highres", _S),  # fewer updates, and better all the same
        ("ours-asynchronous", _A),
        ("ours-reactive", _A),
        ("ours-reactive", _S),
    ]
    return _make(scale, minutes, settings), tuple(compare)


def _make_why(scale: str, minutes: float) -> Planned:
    slower = _A_CYCLE_S / _S_CYCLE_S  # steps of S for each step of A
    discount: dict[str, Any] = {"sac.discount_per_s": 0.04}
    bootstrap: dict[str, Any] = {"sac.bootstrap_timeouts": True}
    correlated: dict[str, Any] = {"sac.exploration_time_s": 0.4}
    several: dict[str, Any] = {"sac.return_span_s": 0.2}
    cycle: dict[str, Any] = {"env.cycle_s": _S_CYCLE_S}
    reactive: dict[str, Any] = {"schedule": "reactive"}
    slow: dict[str, Any] = {"sac.learning_rate": make_setting(_paper(_A, scale=scale)).sac.learning_rate / 2}
    of_s: dict[str, dict[str, Any]] = {
        "sync-reactive": reactive,
        "sync-discount": discount,
        "sync-bootstrap": bootstrap,
        "sync-all": reactive | discount | bootstrap,
        "sync-half-rate": slow,
    }
    of_a: dict[str, dict[str, Any]] = {
        "async-75ms": cycle,
        # As many updates and samples as S, after warm-ups of the same time.
        "async-few-updates": {"max_updates_per_step": slower},
        "async-few-samples": {"sample_share": slower},
        "async-75ms-updates": cycle | {"max_updates_per_step": 1 / slower},
        "async-bootstrap": bootstrap,
        "async-correlated": correlated,
        "async-several-steps": several,
        "async-all": bootstrap | correlated | several,
        "async-half-rate": slow,
    }
    settings = {_A: _paper(_A), _S: _paper(_S)}
    settings |= {name: _paper(_S) | changes for name, changes in of_s.items()}
    settings |= {name: _paper(_A) | changes for name, changes in of_a.items()}
    compare = [(_A, _S), (_A, "async-75ms"), ("async-75ms", _S)]  # the last two are the gap in two steps
    compare += [("async-75ms", "sync-reactive")]  # at one cycle and one response time
    compare += [("async-bootstrap", "sync-bootstrap")]  # the gap where time-outs are bootstrapped
    compare += [("async-half-rate", "sync-half-rate")]  # the gap where updates are worth less
    compare += [(name, _S) for name in of_s]
    compare += [(_A, name) for name in ("async-few-updates", "async-few-samples", "async-75ms-updates")]
    others = ("async-bootstrap", "async-correlated", "async-several-steps", "async-all", "async-half-rate")
    compare += [(name, _A) for name in others]
    return _make(scale, minutes, settings), tuple(compare)


def _make_starvation(scale: str, minutes: float) -> Planned:
    # The profile "paper" has the queue where the paper's records show it, in async-highres alone.
    settings = {
        "highres-queue": _paper("async-highres"),
        "highres-slots": _paper("async-highres", profile="paper-highres"),
        "base-queue": _paper(_A, profile="paper-base-queue"),
        "base-slots": _paper(_A),
    }
    compare = (("highres-slots", "highres-queue"), ("base-slots", "base-queue"), ("base-slots", "highres-slots"))
    return _make(scale, minutes, settings), compare


def _make_cycle_time(scale: str, minutes: float) -> Planned:
    cycles_ms = {"asynchronous": (30, 40, 60, 80, 120, 160), "reactive": (75, 100, 160), "sequential": (75, 100, 160)}
    settings = {
        f"{schedule}-{cycle_ms}ms": {
            "setting": _A if schedule == "asynchronous" else _S,
            "schedule": schedule,
            "env.cycle_s": cycle_ms / 1e3,
        }
        for schedule, cycles in cycles_ms.items()
        for cycle_ms in cycles
    }
    best = "asynchronous-40ms"
    compare = [(best, "reactive-75ms"), (best, "sequential-75ms")]
    compare += [(name, best) for name in settings if name.startswith("asynchronous") and name != best]
    compare += [(f"reactive-{cycle_ms}ms", f"sequential-{cycle_ms}ms") for cycle_ms in cycles_ms["reactive"]]
    return _make(scale, minutes, settings), tuple(compare)


def _make_robots(scale: str, minutes: float) -> Planned:
    ur5e = {"env.robot": "ur5e"}
    settings = {setting: _paper(setting) | ur5e for setting in _SETTINGS} | {"ours-asynchronous": _OURS | ur5e}
    compare = [(_A, _S), ("async-highres", "sync-highres"), ("async-highres", _S), ("ours-asynchronous", _A)]
    return _make(scale, minutes, settings), tuple(compare)


NAMED: Mapping[str, NamedStudy] = MappingProxyType(
    {
        "paper": NamedStudy(
            "Do the paper's four settings come out in the paper's order, and what should one run today?",
            24, 5, _make_paper,
        ),
        "why": NamedStudy(
            "Which of the differences between the paper's two loops makes asynchronous learning better?",
            24, 5, _make_why,
        ),
        "starvation": NamedStudy(
            "Why did asynchronous learning from large images make fewer updates, and what do the missing ones cost?",
            12, 3, _make_starvation,
        ),
        "cycle-time": NamedStudy("What is the best action cycle time for the task?", 12, 3, _make_cycle_time),
        "robots": NamedStudy("Does the result hold on a different robot, a UR5e?", 12, 3, _make_robots),
    }
)  # fmt: skip
"""The studies that come with offbeat, by name."""
