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
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, Union

import tyro

from offbeat.arms import ARMS, RobotName
from offbeat.cli.commands import COMMANDS
from offbeat.config import RunConfig, make_config
from offbeat.errors import ConfigError

# Options that are said often, and the arm that a driver drives where it is not the default one.
_SHORT = {"--robot-host": "--hardware.host", "--camera": "--hardware.camera"}
_ARM_OF: dict[str, RobotName] = {"ur": "ur5e"}
# What the parser says of a value that is no number, and what a user understands.
_NUMBERS = (
    (r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is not a whole number"),
    (r"no type matching \{None\}\|INT could be instantiated from \[('.*')\]", r"\1 is not a whole number"),
    (r"could not convert string to float: ('.*')", r"\1 is not a number"),
    (r"no type matching \{None\}\|FLOAT could be instantiated from \[('.*')\]", r"\1 is not a number"),
)


def parse(arguments: Sequence[str]) -> Any:
    """The command that a command line asks for. Raises: UserError in one sentence; SystemExit after help."""
    arguments = _spell_out(_join(arguments))
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


def _join(arguments: Sequence[str]) -> list[str]:
    """A command line whose command is one argument, where it has two words (robot check). Raises: ConfigError."""
    two = " ".join(arguments[:2])
    if two in COMMANDS:
        return [two, *arguments[2:]]
    ways = [f"`offbeat {name}`" for name in COMMANDS if arguments and name.startswith(f"{arguments[0]} ")]
    if ways:
        raise ConfigError(f"Say {' or '.join(ways)}.")
    return list(arguments)


def _spell_out(arguments: Sequence[str]) -> list[str]:
    """A command line with the full names of the arm's options, where the command has a configuration."""
    if not _has_config(arguments):
        return list(arguments)
    spelt: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option == "--robot":
            name = value if equals else next(iter(arguments[len(spelt) + 1 :]), "")
            # A driver; and what cannot be one is for the full parser to refuse, which lists the arms there are.
            option = "--env.robot" if name in ARMS or not name or name.startswith("-") else "--hardware.driver"
        spelt.append(_SHORT.get(option, option) + equals + value)
    return spelt


def _has_config(arguments: Sequence[str]) -> bool:
    return bool(arguments) and arguments[0] in COMMANDS and COMMANDS[arguments[0]].over is not None


def _base_config(arguments: Sequence[str]) -> RunConfig:
    """The configuration that the four names choose (or their defaults), with the arm and the clock of a driver.

    Raises: ConfigError; DriverError when the driver is unknown or cannot be loaded here.
    """
    names = ("setting", "scale", "preset", "schedule")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in (*names, "hardware.driver"):
        parser.add_argument(f"--{name}", nargs="?")  # a missing value is for the full parser to refuse
    if not _has_config(arguments):
        return make_config()
    known = vars(parser.parse_known_args(list(arguments))[0])
    said = {name: known[name] for name in names if known[name] is not None}
    base = make_config(**(dict(COMMANDS[arguments[0]].names) | said))
    driver = known["hardware.driver"]
    if not driver:
        return base
    from offbeat.robots.registry import require

    require(driver)
    return replace(base, clock="wall", env=replace(base.env, robot=_ARM_OF.get(driver, base.env.robot)))


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
    said = re.sub(r"(, )?'None'(?(1)|, )", "", said)  # an option that may be left out; not a choice
    for theirs, ours in _NUMBERS:
        said = re.sub(theirs, ours, said)
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
