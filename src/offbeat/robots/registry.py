"""Drivers by name: what makes a real arm's `Robot`, and what makes a `Camera`.

A driver is a function of one `RobotSetup`, a camera's of one `CameraSetup` (base.py). It is said by the name of one
that is known here, by the name that an installed package registered for it (entry points of the groups
"offbeat.robots" and "offbeat.cameras"), or as MODULE:FUNCTION, where the module may lie in the current directory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from offbeat.errors import DriverError
from offbeat.robots.base import Camera, CameraSetup, Robot, RobotSetup

ROBOTS: Mapping[str, str] = MappingProxyType(
    {
        "franka": "offbeat.robots.franka:make_franka",
        "ur": "offbeat.robots.ur:make_ur",
        "lerobot": "offbeat.robots.lerobot:make_lerobot",
    }
)
"""The drivers of arms that offbeat has."""
SIM_CAMERA = "sim"
"""The camera of a real arm that is simulated (shadow.py)."""

_WEBCAM = "offbeat.robots.webcam:make_webcam"
_LEROBOT_CAMERA = "offbeat.robots.lerobot:make_lerobot_camera"
# The modules of which a known driver needs one, and the sentence for who has none of them.
_NEEDS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "franka": (
        ("franky", "panda_py"),
        'The Franka driver needs franky-control: pip install "offbeat[fr3]"; for a Panda it needs panda-python: '
        'pip install "offbeat[panda]".',
    ),
    "ur": (("rtde_control",), 'The UR driver needs ur-rtde: pip install "offbeat[ur]".'),
}
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def require(driver: str) -> None:
    """Raises: DriverError, in one sentence, when a driver is unknown or cannot be loaded here; loads nothing."""
    needs, sentence = _NEEDS.get(driver, ((), ""))
    if needs and not any(find_spec(module) for module in needs):
        raise DriverError(sentence)
    _check(_robot_place(driver))


def require_camera(source: str) -> None:
    """Raises: DriverError, in one sentence, when a camera is unknown or cannot be loaded here; opens nothing."""
    if source != SIM_CAMERA:
        _check(_camera_place(source))


def make_robot(driver: str, setup: RobotSetup) -> Robot:
    """The arm of a driver. Raises: DriverError as `require`; what the driver raises that cannot reach the arm."""
    made: Robot = load(_robot_place(driver))(setup)
    return made


def make_camera(setup: CameraSetup) -> Camera:
    """The camera that `setup.source` says. Raises: DriverError as `require_camera`; what the camera's function does."""
    made: Camera = load(_camera_place(setup.source))(setup)
    return made


def load(place: str, what: str = "the function") -> Any:
    """What MODULE:NAME is; the module may lie in the current directory. Raises: DriverError, in one sentence."""
    module, _, name = place.partition(":")
    _look_here()
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise DriverError(
            f"{place} cannot be loaded ({error}): check {what}, and what it needs to be installed."
        ) from error
    if found is None:
        raise DriverError(f"{module} has no {name}: check {what}, {place}.")
    return found


def _check(place: str) -> None:
    """Raises: DriverError when there is no such module."""
    module = place.partition(":")[0]
    _look_here()
    try:
        found = find_spec(module) is not None
    except ImportError:  # of a package that it would lie in
        found = False
    if not found:
        raise DriverError(f"There is no module {module} here or installed: check the name in {place}.")


def _look_here() -> None:
    """Let modules of the current directory be imported; an installed command looks beside itself only."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _robot_place(driver: str) -> str:
    """MODULE:FUNCTION of a driver. Raises: DriverError when it is unknown."""
    place = ROBOTS.get(driver) or _registered("offbeat.robots", driver)
    if place is None:
        known = ", ".join([*ROBOTS, *(entry.name for entry in entry_points(group="offbeat.robots"))])
        raise DriverError(f"Unknown robot {driver!r}: use panda or ur5e (simulated), {known}, or MODULE:FUNCTION.")
    return place


def _camera_place(source: str) -> str:
    """MODULE:FUNCTION of a camera. Raises: DriverError when it is unknown."""
    if source.startswith("lerobot:"):
        return _LEROBOT_CAMERA
    place = _registered("offbeat.cameras", source)
    if place is not None:
        return place
    if source.isdigit() or "/" in source or Path(source).exists():
        return _WEBCAM
    known = "".join(f", {entry.name}" for entry in entry_points(group="offbeat.cameras"))
    raise DriverError(
        f"Unknown camera {source!r}: use sim, a number or device (0, /dev/video0), a file or address that is there"
        f"{known}, or MODULE:FUNCTION."
    )


def _registered(group: str, name: str) -> str | None:
    """The place of an installed driver, or of one that is said by its place."""
    for entry in entry_points(group=group, name=name):
        return entry.value
    return name if _FUNCTION.fullmatch(name) else None
