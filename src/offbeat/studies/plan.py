"""What a study is: settings times seeds, as plain data, and everything that can be wrong with one.

Nothing here runs anything, so that a mistake is told before anything runs.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from offbeat.config import RunConfig, make_config
from offbeat.errors import ConfigError
from offbeat.timing.profile import Stage, load_profile

NAMES = ("setting", "scale", "preset", "schedule")
"""What a user says first; the defaults of all other options follow from these."""

REPORT = "report"
"""Directory of a study's report, beside the settings."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_IN_CYCLE = {"asynchronous": (Stage.ACT, Stage.STORE)}  # the other schedules do all four within their cycle


@dataclass(frozen=True)
class StudySetting:
    """One column of a study. name: a directory's name, [a-z0-9.-]. config: what is run; each run has its own seed."""

    name: str
    config: RunConfig


@dataclass(frozen=True)
class StudyRun:
    """One run of a study. directory: relative to the study's own."""

    setting: str
    seed: int
    config: RunConfig

    @property
    def directory(self) -> Path:
        """Where the run lies in the study's directory."""
        return Path(self.setting) / f"seed-{self.seed}"

    def __str__(self) -> str:
        return f"{self.setting} seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """Settings times seeds, and what is asked of them.

    question: one sentence, shown by the report. compare: pairs (new, old) of setting names whose gap the report
    states; the first is the main gap, of which the others are shares.
    """

    name: str
    question: str
    settings: tuple[StudySetting, ...]
    seeds: tuple[int, ...]
    compare: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The study as plain data, without its seeds: what stands in every study.json."""
        return {
            "name": self.name,
            "question": self.question,
            "compare": [list(pair) for pair in self.compare],
            "settings": [{"name": setting.name, "config": setting.config.to_dict()} for setting in self.settings],
        }

    def runs(self) -> tuple[StudyRun, ...]:
        """All runs, seeds outermost, so that every setting has its first seed early."""
        return tuple(
            StudyRun(setting.name, seed, replace(setting.config, seed=seed))
            for seed in self.seeds
            for setting in self.settings
        )


def make_setting(changes: Mapping[str, Any]) -> RunConfig:
    """The configuration of a setting, from the names a user says first and any dotted options after them.

    changes: such as {"setting": "sync-base", "scale": "cpu", "env.cycle_s": 0.05}. Raises: ConfigError.
    """
    names = {name: value for name, value in changes.items() if name in NAMES}
    for name, value in names.items():
        if not isinstance(value, str):
            raise ConfigError(f"{name} is {value!r}: give a name in quotes.")
    return apply_changes(make_config(**names), {name: value for name, value in changes.items() if name not in NAMES})


def apply_changes(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """A configuration with other values for some options.

    changes: dotted names, such as {"env.cycle_s": 0.05, "sac.bootstrap_timeouts": True, "minutes": 12}.
    Raises: ConfigError, which names an unknown option and those that look like it, or a value of the wrong type.
    """
    kinds = option_kinds()
    parts: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        check_option(name)
        part, _, last = name.rpartition(".")
        parts.setdefault(part, {})[last] = _typed(name, value, kinds[name])
    inner = {part: replace(getattr(config, part), **values) for part, values in parts.items() if part}
    return replace(config, **parts.get("", {}), **inner)


@cache
def option_kinds() -> dict[str, Any]:
    """The type of every option that a study may vary, by dotted name: `env.cycle_s` is float."""
    found: dict[str, Any] = {}
    hints = get_type_hints(RunConfig)
    for field in fields(RunConfig):
        kind = hints[field.name]
        if is_dataclass(kind):
            inner = get_type_hints(kind)
            found |= {f"{field.name}.{part.name}": inner[part.name] for part in fields(kind)}
        elif field.name not in ("setting", "scale", "preset", "seed"):
            found[field.name] = kind
    return found


def check_option(name: str) -> None:
    """Raises: ConfigError when a study cannot vary this option."""
    if name == "seed":
        raise ConfigError("seed is no option of a setting: give the study's seeds.")
    if name in ("setting", "scale", "preset"):
        raise ConfigError(f"{name} decides the defaults of the other options: make a new configuration with it.")
    if name not in option_kinds():
        raise ConfigError(
            f"Unknown option {name!r}{near(name, [*option_kinds(), *NAMES])}: `offbeat train --help` lists all."
        )


def near(name: str, known: Iterable[str]) -> str:
    """`, the nearest is env.cycle_s`: what a user may have meant; nothing where no known name is like it."""
    by_last = {other.rpartition(".")[2]: other for other in known}
    plain = name.replace("-", "_")
    matches = difflib.get_close_matches(plain, by_last.values(), n=3, cutoff=0.7)
    matches += difflib.get_close_matches(plain.rpartition(".")[2], by_last, n=2, cutoff=0.7)
    unique = list(dict.fromkeys(by_last.get(match, match) for match in matches))[:3]
    return f", the nearest {'is' if len(unique) == 1 else 'are'} {', '.join(unique)}" if unique else ""


def combine_axes(axes: Mapping[str, Iterable[Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Every combination of the axes' values: a name made of the values, and the changes."""
    combinations = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return [("-".join(_value_name(*item) for item in changes.items()), changes) for changes in combinations]


def check_study(study: Study) -> None:
    """Raises: ConfigError, one sentence, for whatever is wrong with a study, before anything runs; ProfileError."""
    _check_name("The study", study.name)
    if not study.settings:
        raise ConfigError(f"The study {study.name!r} has no settings: give at least one.")
    if not study.seeds:
        raise ConfigError(f"The study {study.name!r} has no seeds: give at least one, such as seeds = [0, 1, 2].")
    if min(study.seeds) < 0:
        raise ConfigError(f"Seed {min(study.seeds)} is below 0: use 0 or more.")
    names = [setting.name for setting in study.settings]
    for what, values in (("setting", names), ("seed", study.seeds)):
        twice = next((value for value in values if list(values).count(value) > 1), None)
        if twice is not None:
            raise ConfigError(f"Two {what}s of the study {study.name!r} are {twice!r}: give each once.")
    for name in (name for pair in study.compare for name in pair):
        if name not in names:
            raise ConfigError(f"The comparison with {name!r} names no setting: use {', '.join(names)}.")
    for setting in study.settings:
        _check_name("A setting", setting.name)
        check_cycle(setting)


def check_cycle(setting: StudySetting) -> None:
    """Raises: ConfigError when a setting's stages do not fit its cycle; ProfileError when its timing is unknown."""
    config = setting.config
    profile = load_profile(config.profile, config.setting, config.schedule)
    if config.clock == "wall":
        return  # no profile says what the stages cost there
    stages = _IN_CYCLE.get(config.schedule, tuple(Stage))
    needed_s = sum(profile.stages[stage].median_s for stage in stages)
    if needed_s > config.env.cycle_s:
        raise ConfigError(
            f"The setting {setting.name!r} cannot hold its cycle of {config.env.cycle_s * 1e3:g} ms: "
            f"{', '.join(stage.value for stage in stages)} take {needed_s * 1e3:.1f} ms in the {config.schedule} "
            f"schedule (medians of the timing profile {profile.name}), so give a longer env.cycle_s."
        )


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name) or name == REPORT:
        raise ConfigError(
            f"{what} is named {name!r}: use small letters, digits, dots and hyphens, and not {REPORT!r}, "
            "for it becomes a directory."
        )


def _typed(name: str, value: Any, kind: Any) -> Any:
    """`value` as an option of this kind. Raises: ConfigError when it is of another."""
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise ConfigError(f"{name} is {value!r}: use {', '.join(get_args(kind))}.")
    if get_origin(kind) is tuple:
        inner, last = get_args(kind)[0], get_args(kind)[-1]
        count = len(value) if isinstance(value, list | tuple) else 0
        if count and (last is ... or count == len(get_args(kind))):
            return tuple(_typed(name, item, inner) for item in value)
        wanted = "numbers" if last is ... else f"{len(get_args(kind))} numbers"
        raise ConfigError(f"{name} is {value!r}: give a list of {wanted}.")
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value) is kind and kind is not float:
        return value
    raise ConfigError(f"{name} is {value!r}: give {_KINDS[kind]}.")


_KINDS: Mapping[Any, str] = MappingProxyType(
    {float: "a finite number", int: "a whole number", bool: "true or false", str: "a text in quotes"}
)


def _value_name(option: str, value: Any) -> str:
    """A value in a setting's name: `reactive`, `cycle-40ms`, `no-bootstrap-timeouts`, `batch-size-64`."""
    last = option.rpartition(".")[2]
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = last if value else f"no-{last}"
    elif last.endswith("_s") and not last.endswith("_rad_s"):
        stem = last.removesuffix("_s")
        text = f"{stem}-{value * 1e3:g}ms" if abs(value) < 1 else f"{stem}-{value:g}s"
    elif isinstance(value, list | tuple):
        text = f"{last}-{'x'.join(map(str, value))}"
    else:
        text = f"{last}-{value:g}"
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
