"""What every camera keeps to, simulated or real: a row each. A USB camera is filmed by a film here."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from benches import BENCHES, ENV, WATCHDOG_S, fake_faults
from waiting import until

from offbeat.config import HardwareConfig
from offbeat.errors import StaleFrameError
from offbeat.robots.hardware import HardwareRig
from offbeat.timing.wall import WallClock

PATIENCE_S = 1.0


def film(directory: Path) -> str:
    """A film of 30 images a second, each a little brighter."""
    path = directory / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (160, 90))
    for brightness in range(60):
        writer.write(np.full((90, 160, 3), 60 + 2 * brightness, np.uint8))
    writer.release()
    return str(path)


@pytest.fixture(
    scope="module",
    params=["simulated", "shadow", "own", "film", pytest.param("real", marks=pytest.mark.hardware)],
)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A rig with the row's camera: of "simulated" its arm's own process draws, "real" is what OFFBEAT_CAMERA says."""
    with fake_faults() as behind:
        if request.param == "simulated":
            made = BENCHES[0].rig(None)
        else:
            clock, own = WallClock(), "fake_arm:FakeCamera"
            cameras = {"shadow": "sim", "own": own, "film": film(tmp_path_factory.mktemp("film"))}
            camera = (cameras | {"real": os.environ.get("OFFBEAT_CAMERA", "0")})[request.param]
            hardware = HardwareConfig(driver="fake_arm:FakeArm", host=behind.host, camera=camera)
            made = HardwareRig(ENV, hardware, clock, clock.epoch_s, WATCHDOG_S)
        yield made
        made.close()


def read(rig: Any, max_age_s: float = PATIENCE_S) -> Any:
    """The newest image; None when it is too old."""
    try:
        return rig.camera.read_latest(max_age_s)
    except StaleFrameError:
        return None


def test_images_have_the_tasks_size_and_stamps_that_go_on(rig: Any) -> None:
    frame = until(lambda: read(rig))
    assert frame.image.shape == (ENV.height, ENV.width, 3) and frame.image.dtype == np.uint8
    stamps_s = [frame.captured_s]
    for _ in range(5):
        stamps_s.append(until(lambda: (f := read(rig)) and f.captured_s > stamps_s[-1] and f).captured_s)
    assert stamps_s[-1] <= rig.robot.read_state().stamp_s + 0.1, "no light of the future"
    assert np.diff(stamps_s).min() > 0.02, "no more often than the camera has images"


def test_old_images_are_refused(rig: Any) -> None:
    def refused() -> str:
        try:
            rig.camera.read_latest(0.0)
        except StaleFrameError as error:
            return str(error)
        return ""  # this process was held up after it had looked at the clock, for longer than light takes to arrive

    assert re.search(r"is \d.\d+ s old and 0 s is allowed: check the camera", until(refused))


def test_a_killed_camera_is_an_error(rig: Any) -> None:  # the last of a row
    process = list(rig.watched.values())[-1].process
    process.kill()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    until(lambda: read(rig, 0.2) is None)
