"""Drivers by name, and what is said when one cannot be had."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from offbeat.errors import DriverError
from offbeat.robots import registry
from offbeat.robots.registry import load, make_camera, make_robot, require, require_camera


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that registers an arm and a camera."""
    both = (
        EntryPoint("wam", "fake_arm:FakeArm", "offbeat.robots"),
        EntryPoint("zed", "fake_arm:FakeCamera", "offbeat.cameras"),
    )

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in both if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_missing_libraries_are_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda module: None)
    with pytest.raises(DriverError, match=r'needs franky-control: pip install "offbeat\[fr3\]"; .* "offbeat\[panda\]"'):
        require("franka")
    with pytest.raises(DriverError, match=r'The UR driver needs ur-rtde: pip install "offbeat\[ur\]"'):
        require("ur")


def test_one_library_for_either_arm_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda module: None if module == "franky" else object())
    require("franka")


def test_installed_drivers_are_found_by_name(installed: None) -> None:
    require("wam")
    require_camera("zed")
    with pytest.raises(
        DriverError, match=r"Unknown robot 'ur6': use panda or ur5e .* franka, ur, lerobot, wam, or MODULE"
    ):
        require("ur6")
    with pytest.raises(DriverError, match=r"Unknown camera 'kinect': use sim, .*, zed, or MODULE:FUNCTION"):
        require_camera("kinect")


def test_own_modules_lie_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(DriverError, match="There is no module my_arm_of_tin here or installed"):
        require("my_arm_of_tin:make")
    (tmp_path / "my_arm_of_tin.py").write_text("def make(setup):\n    return 'an arm', setup\nimport json\n")
    require("my_arm_of_tin:make")
    setup: Any = "its setup"
    assert make_robot("my_arm_of_tin:make", setup) == ("an arm", setup)
    with pytest.raises(DriverError, match="my_arm_of_tin has no build: check"):
        load("my_arm_of_tin:build")


def test_a_module_that_lacks_something_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_arm_of_clay.py").write_text("import library_of_clay\n")
    with pytest.raises(DriverError, match=r"cannot be loaded \(No module named 'library_of_clay'\): check"):
        load("my_arm_of_clay:make")


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("0", "offbeat.robots.webcam:make_webcam"),
        ("/dev/video2", "offbeat.robots.webcam:make_webcam"),
        ("rtsp://10.0.0.3/cam", "offbeat.robots.webcam:make_webcam"),
        ("lerobot:my_camera:make", "offbeat.robots.lerobot:make_lerobot_camera"),
        ("fake_arm:FakeCamera", "fake_arm:FakeCamera"),
    ],
)
def test_cameras_are_told_by_what_is_said(source: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr(registry, "load", lambda where: found.append(where) or (lambda setup: setup))

    class Setup:
        pass

    setup: Any = Setup()
    setup.source = source
    assert make_camera(setup) is setup
    assert found == [place]


def test_the_simulated_camera_needs_nothing() -> None:
    require_camera("sim")
