"""Study files: a user's own study in ten lines of TOML.

name, question, seeds (a number or a list); `[base]`, what all settings share, as for `offbeat train`; `[axes]`, lists
of values whose every combination is a setting; `[[settings]]`, settings by name, beside the axes or instead of them;
compare, pairs of setting names. Options have their dotted names, such as env.cycle_s. examples/my_study.toml is one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offbeat.errors import ConfigError, ProfileError
from offbeat.studies.plan import Study, StudySetting, check_study, combine_axes, make_setting, near

_KEYS = ("name", "question", "seeds", "base", "axes", "settings", "compare")


def load_study(
    path: Path | str, scale: str | None = None, minutes: float | None = None, seeds: int | None = None
) -> Study:
    """Read and check a study file.

    scale, minutes, seeds: said on the command line, they take the place of what the file says.
    Raises: ConfigError, one sentence that begins with the file's name.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The study file {path} cannot be read ({error.strerror}): give the path of one.") from error
    except ValueError as error:  # TOML's own errors, and bytes that are no text
        raise ConfigError(f"The study file {path} is not TOML ({error}).") from error
    changes = {"scale": scale, "minutes": minutes}
    try:
        study = _study(data, path.stem, {name: value for name, value in changes.items() if value is not None}, seeds)
        check_study(study)
    except (ConfigError, ProfileError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return study


def _study(data: Mapping[str, Any], stem: str, said: dict[str, Any], seeds: int | None) -> Study:
    unknown = next((key for key in data if key not in _KEYS), None)
    if unknown is not None:
        raise ConfigError(f"Unknown key {unknown!r}{near(unknown, _KEYS)}: use {', '.join(_KEYS)}.")
    base, axes = _flatten(_table(data, "base")), _flatten(_table(data, "axes"))
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"The axis {name!r} is {values!r}: give a list of one value or more.")
    planned = combine_axes(axes) if axes else []
    listed = data.get("settings", [])
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        raise ConfigError("settings is no list of tables: begin each setting with [[settings]].")
    for entry in listed:
        own = _flatten(entry)
        planned.append((_text(own, "name", "A setting"), {key: value for key, value in own.items() if key != "name"}))
    settings = []
    for name, changes in planned or [("base", {})]:
        try:
            settings.append(StudySetting(name, make_setting(base | changes | said)))
        except ConfigError as error:
            raise ConfigError(f"The setting {name!r}: {error}") from error
    name = _text(data, "name", "The study") if "name" in data else stem
    question = _text(data, "question", "The study") if "question" in data else ""
    return Study(name, question, tuple(settings), _seeds(data.get("seeds", []), seeds), _pairs(data.get("compare", [])))


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{key} is {table!r}: make it a table that begins with [{key}].")
    return table


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names, whether they were written as `"env.cycle_s"`, as `env.cycle_s` or in a table of their own."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _text(table: Mapping[str, Any], key: str, what: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        problem = f"{what} has no {key}: give it one" if value is None else f"{key} is {value!r}: give a text in quotes"
        raise ConfigError(f"{problem}.")
    return value


def _seeds(value: Any, said: int | None) -> tuple[int, ...]:
    """A list of seeds, or of so many as a number says, from 0 on."""
    value = value if said is None else said
    if type(value) is int:
        return tuple(range(value))
    if isinstance(value, list) and all(type(seed) is int for seed in value):
        return tuple(value)
    raise ConfigError(f"seeds is {value!r}: give a number of seeds or a list of them, such as [0, 1, 2].")


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = value if isinstance(value, list) else [value]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, str) for n in pair) for pair in pairs):
        raise ConfigError(f'compare is {value!r}: give pairs of setting names, such as [["new", "old"]].')
    return tuple((new, old) for new, old in pairs)
