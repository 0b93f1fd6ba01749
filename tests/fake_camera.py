"""A V4L2 camera that is not there (fake_v4l2.c), for processes started with its environment; and what watches it.

Run as a script, in such a process, it watches a camera and prints what it saw: see `main`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from offbeat.errors import StaleFrameError
from offbeat.robots.base import CameraSetup
from offbeat.robots.webcam import make_webcam
from offbeat.timing.wall import WallClock

DEVICE = "/dev/video63"
RATE_HZ = 60.0
MAX_AGE_S = 0.15
COMPILER = shutil.which("gcc") or shutil.which("cc")
_HERE = Path(__file__).parent


def numbered(number: int, height: int = 180, width: int = 320) -> np.ndarray:
    """An image (height, width, 3) uint8 that says its number, 0 to 63, as its grey; `number_of` reads it."""
    return np.full((height, width, 3), 4 * number, np.uint8)


def number_of(image: np.ndarray) -> int:
    """The number that an image says, whatever its size and compression."""
    return round(float(image.mean()) / 4)


class FakeCamera:
    """The camera as built into a directory: its environment, and what can go wrong with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        library = directory / "fake_v4l2.so"
        assert COMPILER is not None
        options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
        subprocess.run([COMPILER, *options, str(_HERE / "fake_v4l2.c")], check=True)
        for number in range(64):
            cv2.imwrite(str(directory / f"{number}.jpg"), numbered(number))
        self.environment = os.environ | {
            "LD_PRELOAD": str(library),
            "FAKE_V4L2_DEVICE": DEVICE,
            "FAKE_V4L2_DIR": str(directory),
            "FAKE_V4L2_SIZE": "320x180",
            "FAKE_V4L2_RATE": f"{RATE_HZ:g}",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }

    def begin(self, trouble: str) -> float:
        """Begin a trouble: "unplugged", "stuck" or "frozen"; returns when (s, time.monotonic())."""
        (self._directory / trouble).touch()
        return time.monotonic()

    def end(self, trouble: str) -> float:
        """End it; returns when (s, time.monotonic())."""
        (self._directory / trouble).unlink()
        return time.monotonic()


def main(source: str, height: str, width: str) -> None:
    """Watch a camera until standard input ends, then print as JSON, in seconds of `time.monotonic()`:

    images: [captured, seen, number] of each that was new. errors: [seen, sentence]. log: [seen, sentence].
    """
    log: list[tuple[float, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append((time.monotonic(), record.getMessage()))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    clock = WallClock(epoch_s=time.monotonic() - 1000.0)  # stamps have to be translated to it
    camera = make_webcam(CameraSetup(source, int(height), int(width), clock, RATE_HZ))
    print("ready", flush=True)
    os.set_blocking(sys.stdin.fileno(), False)
    images: list[tuple[float, float, int]] = []
    errors: list[tuple[float, str]] = []
    newest_s = -np.inf
    while sys.stdin.buffer.read() != b"":
        try:
            frame = camera.read_latest(MAX_AGE_S)
            if frame.captured_s > newest_s:
                newest_s = frame.captured_s
                assert frame.image.shape == (int(height), int(width), 3)
                images.append((newest_s + clock.epoch_s, time.monotonic(), number_of(frame.image)))
        except StaleFrameError as error:
            errors.append((time.monotonic(), str(error)))
        time.sleep(0.002)
    camera.close()
    print(json.dumps({"images": images, "errors": errors, "log": log}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
