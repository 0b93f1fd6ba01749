"""Where a `Webcam`'s images come from: a V4L2 device, a stream from the network, or a film played at its own rate.

Each opens in `open`, gives one image after the other in `read`, and may be opened again when it was lost.
"""

from __future__ import annotations

import grp
import os
import time
from glob import glob
from pathlib import Path
from typing import Any, Protocol

import cv2

from offbeat.errors import DriverError, RobotError
from offbeat.types import ImageArray

BUFFERS = 2
"""Images that the driver may hold: one is filled while the other is read. More only make images older."""

_SMALLEST = (180, 320)  # the smallest image asked of a device; smaller ones are often cut from the middle
_BAD_IMAGES = 10  # damaged images in a row that are passed over
_OLDEST_S = 10.0  # a stamp further back is not of this clock
_OPEN_MS, _READ_MS = 5000, 1000  # of a stream


class Source(Protocol):
    """What gives images one after the other."""

    name: str
    """What a message calls it."""

    def open(self) -> None:
        """Begin, or begin again. Raises: DriverError, in one sentence that says what to do."""
        ...

    def read(self) -> tuple[ImageArray, float]:
        """Wait for the next image, (h, w, 3) uint8 BGR; with the time it was captured at (s, `time.monotonic()`).

        Raises: RobotError when none comes any more.
        """
        ...

    def close(self) -> None:
        """Let go of it; may be called when it is not open."""
        ...


class Device:
    """A camera that the kernel knows (V4L2), in Motion JPEG where it can, at about twice the task's size."""

    def __init__(self, name: str, height: int, width: int, rate_hz: float) -> None:
        """name: /dev/video0. height, width: of the task's images (pixels). rate_hz: images a second to ask for (Hz)."""
        self.name = name
        self._height, self._width = max(2 * height, _SMALLEST[0]), max(2 * width, _SMALLEST[1])
        self._rate_hz = rate_hz
        self._capture: Any = None

    def open(self) -> None:
        """Raises: DriverError when there is no such device, it may not be opened, or is no camera."""
        _quieten()
        # How long a read waits for an image (whole seconds), ten where nothing is said.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
        capture = cv2.VideoCapture(self.name, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise DriverError(_why_not(self.name))
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._height)
        capture.set(cv2.CAP_PROP_FPS, self._rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)
        self._capture = capture

    def read(self) -> tuple[ImageArray, float]:
        """The next image, with the stamp that its driver gave it. Raises: RobotError after a second without one."""
        for _ in range(_BAD_IMAGES):
            if not self._capture.grab():
                raise RobotError(f"The camera {self.name} gives no images any more (is it unplugged?)")
            now_s, stamp_s = time.monotonic(), self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            whole, image = self._capture.retrieve()
            if whole:
                # A driver without stamps of this clock: all that is known is when the image arrived.
                return image, stamp_s if 0.0 <= now_s - stamp_s < _OLDEST_S else now_s
        raise RobotError(f"The camera {self.name} gives damaged images only (try another cable or port)")

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()


class Stream:
    """Images from an address (rtsp://..., http://...), stamped when they arrive: nothing says when they were taken."""

    def __init__(self, address: str) -> None:
        self.name = address
        self._capture: Any = None

    def open(self) -> None:
        """Raises: DriverError when nothing answers there within 5 s."""
        _quieten()
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_MS]
        capture = cv2.VideoCapture(self.name, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            raise DriverError(f"No video can be had from {self.name}: check the address, and that its sender runs.")
        self._capture = capture

    def read(self) -> tuple[ImageArray, float]:
        """The next image. Raises: RobotError when none came for a second, or the stream has ended."""
        whole, image = self._capture.read()
        if not whole:
            raise RobotError(f"The camera {self.name} gives no images any more (has its sender stopped?)")
        return image, time.monotonic()

    def close(self) -> None:
        """Let go of the connection."""
        if self._capture is not None:
            self._capture.release()


class Film:
    """A file, played at its own rate, over and over. Images whose time has gone by are passed over."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        """rate_hz: for a file that does not say its own (Hz)."""
        self.name = str(path)
        self._rate_hz = rate_hz
        self._capture: Any = None
        self._start_s, self._count = 0.0, 0

    def open(self) -> None:
        """Raises: DriverError when the file is missing or holds no video."""
        _quieten()
        if not Path(self.name).is_file():
            raise DriverError(f"There is no file {self.name}: check the path that --camera gives.")
        self._capture = cv2.VideoCapture(self.name)
        if not self._capture.isOpened() or not self._capture.grab():
            raise DriverError(f"{self.name} holds no video that can be read: convert it to MP4 or AVI.")
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        self._rate_hz = rate_hz if 0.0 < rate_hz < 1000.0 else self._rate_hz
        self._start_s, self._count = time.monotonic(), 0

    def read(self) -> tuple[ImageArray, float]:
        """The image whose turn it is, at the moment of its turn. Raises: RobotError when the file cannot be read."""
        due_s = self._start_s + self._count / self._rate_hz
        while due_s + 1 / self._rate_hz < time.monotonic():
            self._next()
            due_s = self._start_s + self._count / self._rate_hz
        whole, image = self._capture.retrieve()
        self._next()
        if not whole:
            raise RobotError(f"The film {self.name} holds a damaged image")
        time.sleep(max(0.0, due_s - time.monotonic()))
        return image, due_s

    def close(self) -> None:
        """Let go of the file."""
        if self._capture is not None:
            self._capture.release()

    def _next(self) -> None:
        """Go on to the next image, which at the end is the first. Raises: RobotError when there is none."""
        self._count += 1
        if self._capture.grab():
            return
        self._capture.release()
        self._capture = cv2.VideoCapture(self.name)
        if not self._capture.grab():
            raise RobotError(f"The film {self.name} cannot be read any more")


def _why_not(device: str) -> str:
    """Why a device cannot be opened, in one sentence."""
    if not os.path.exists(device):
        there = ", ".join(sorted(glob("/dev/video*"))) or "none at all"
        return f"There is no camera {device} (there is {there}): plug it in, or say another with --camera."
    if not os.access(device, os.R_OK | os.W_OK):
        group = grp.getgrgid(os.stat(device).st_gid).gr_name
        return f"You may not open {device}: join its group with `sudo usermod -aG {group} $USER` and log in again."
    return (
        f"{device} cannot be opened as a camera: another program may be using it (`fuser {device}` says which), or it "
        "is one of the devices of a camera that give no images (try the next number)."
    )


def _quieten() -> None:
    """Let OpenCV and FFmpeg say nothing of their own: what is wrong is said once, by us."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
