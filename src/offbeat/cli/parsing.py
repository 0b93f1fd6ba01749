"""Reads a command line.

The options are the fields of the configuration. The four names a user says (setting, scale, preset, schedule) choose
the base that the other options change, so they are looked for first; then everything is read again over that base.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Union

import tyro

from offbeat.cli.commands import COMMANDS
from offbeat.config import RunConfig, make_config
from offbeat.errors import ConfigError


def parse(arguments: Sequence[str]) -> Any:
    """The command that a command line asks for. Raises: ConfigError in one sentence; SystemExit after help."""
    # The arm is said as often as the four names.
    arguments = [re.sub("^--robot(?==|$)", "--env.robot", argument) for argument in arguments]
    base = _base_config(arguments)
    choices = tuple(
        Annotated[
            command.kind,
            tyro.conf.subcommand(
                name,
                description=command.description if list(arguments[:1]) == [name] else None,
                **({} if command.over is None else {"default": command.over(base)}),
            ),
        ]
        for name, command in COMMANDS.items()
    )
    kinds: Any = Union[choices]  # noqa: UP007  made from a tuple
    with _one_sentence(arguments):
        command = tyro.cli(kinds, prog="offbeat", args=list(arguments), config=(tyro.conf.OmitSubcommandPrefixes,))
    _check_finite(command)
    return command


def _base_config(arguments: Sequence[str]) -> RunConfig:
    """The configuration that the four names choose; the defaults where a name is not given. Raises: ConfigError."""
    names = ("setting", "scale", "preset", "schedule")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        parser.add_argument(f"--{name}", nargs="?")  # a missing value is for the full parser to refuse
    if not arguments or arguments[0] not in COMMANDS or COMMANDS[arguments[0]].over is None:
        return make_config()
    known, _ = parser.parse_known_args(list(arguments))
    said = {name: value for name in names if (value := getattr(known, name)) is not None}
    return make_config(**(dict(COMMANDS[arguments[0]].names) | said))


@contextlib.contextmanager
def _one_sentence(arguments: Sequence[str]) -> Iterator[None]:
    """Turn the parser's boxed complaints into the first sentence in them. Raises: ConfigError."""
    if {"-h", "--help"} & set(arguments):
        yield
        return
    boxes = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"  # a sentence stays on one line of its box
    try:
        with contextlib.redirect_stderr(boxes):
            yield
    except SystemExit:
        known = arguments and arguments[0] in COMMANDS
        where = f"`offbeat {arguments[0]} --help`" if known else "`offbeat --help`"
        raise ConfigError(f"{_first_sentence(boxes.getvalue())}: see {where}.") from None
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _first_sentence(boxes: str) -> str:
    """What a box says above its first rule."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxes)
    inside = [line.strip(" │╭╮╰╯─\n") for line in plain.splitlines()[1:]]
    said = " ".join(itertools.takewhile(bool, inside))
    return re.sub(r"\s+", " ", said).rstrip(".: ") or "The command line cannot be read"


def _check_finite(value: Any, name: str = "") -> None:
    """Raises: ConfigError when a number anywhere in a dataclass is infinite or not a number."""
    if is_dataclass(value):
        for field in fields(value):
            _check_finite(getattr(value, field.name), field.name)
    elif isinstance(value, tuple):
        for item in value:
            _check_finite(item, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value}: give a finite number.")
