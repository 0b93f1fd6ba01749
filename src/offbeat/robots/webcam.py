"""A USB camera, a stream or a film as the task's camera: a thread reads every image and keeps the newest.

    source --read--> reader's thread: frozen? crop, shrink, RGB --newest--> read_latest
       '--- lost: close, wait 0.1 s to 2 s, open again ---'

Stamps are the source's own (`video.py`), so an image that waited in a buffer is as old as it is, and `read_latest`
refuses it. A camera that repeats one image to the byte has frozen, which its stamps do not show.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from offbeat.errors import DriverError, RobotError, StaleFrameError
from offbeat.robots.base import CameraSetup
from offbeat.robots.video import Device, Film, Source, Stream
from offbeat.timing.clock import Clock
from offbeat.types import Frame, ImageArray

FROZEN_FRAMES = 30
"""A camera that shows the same image, byte for byte, so many times in a row has frozen: noise alone changes some."""

_FIRST_IMAGE_S = 5.0  # a camera takes a second or two to set its exposure
_WAITS_S = (0.1, 2.0)  # between two tries to open a lost camera: doubled from the first up to the last
_LEAVE_S = 3.0  # a read ends by itself within a second

_logger = logging.getLogger(__name__)


def make_webcam(setup: CameraSetup) -> Webcam:
    """The camera whose number (0), device (/dev/video0), address (rtsp://...) or film is `setup.source`.

    Raises: DriverError when it cannot be opened, or gives no image within 5 s.
    """
    source, height, width = setup.source, setup.height, setup.width
    if source.isdigit() or source.startswith("/dev/"):
        name = f"/dev/video{source}" if source.isdigit() else source
        return Webcam(Device(name, height, width, setup.rate_hz), height, width, setup.clock)
    if "://" in source:
        return Webcam(Stream(source), height, width, setup.clock)
    # A film may stand still for as long as it likes.
    return Webcam(Film(Path(source), setup.rate_hz), height, width, setup.clock, frozen_frames=0)


class Webcam:
    """The newest image of a source, cropped and shrunk to the task's size. Implements `Camera`."""

    def __init__(
        self, source: Source, height: int, width: int, clock: Clock, *, frozen_frames: int = FROZEN_FRAMES
    ) -> None:
        """Open the source and wait for its first image.

        height, width: of the images to give (pixels). clock: what stamps are counted on. frozen_frames: repetitions of
        an image from which the source counts as frozen; 0: never. Raises: DriverError.
        """
        cv2.setNumThreads(1)  # small images gain nothing from more, and the agent needs the cores
        self._source, self._height, self._width, self._clock = source, height, width, clock
        self._offset_s, self._frozen_frames = _offset(clock), frozen_frames
        self._frame: Frame | None = None
        self._last: ImageArray | None = None  # as it came, to compare with
        self._repeats, self._lost = 0, False
        self._arrived, self._closing = threading.Event(), threading.Event()
        source.open()
        self._thread = threading.Thread(target=self._read, name="offbeat-webcam", daemon=True)
        self._thread.start()
        if not self._arrived.wait(_FIRST_IMAGE_S):
            self.close()
            raise DriverError(
                f"The camera {source.name} gave no image within {_FIRST_IMAGE_S:g} s: unplug it and plug it in again, "
                "or try another port or another camera."
            )

    def read_latest(self, max_age_s: float) -> Frame:
        """The newest image, (H, W, 3) uint8 RGB.

        Raises: StaleFrameError when it was captured over `max_age_s` ago, or the camera has frozen.
        """
        frame = self._frame
        assert frame is not None  # it came before the constructor ended
        age_s = self._clock.now() - frame.captured_s
        if age_s > max_age_s:
            what, remedy = (
                ("gives no images any more (is it unplugged?)", "it is opened again as soon as it is there")
                if self._lost
                else ("is late", "check its rate (offbeat camera check), and what else this machine is busy with")
            )
            raise StaleFrameError(
                f"The camera {self._source.name} {what}: its newest image is {age_s:.3f} s old and {max_age_s:g} s is "
                f"allowed; {remedy}."
            )
        if 0 < self._frozen_frames <= self._repeats:
            raise StaleFrameError(
                f"The camera {self._source.name} has frozen: it gave one image {self._repeats + 1} times in a row. "
                "Unplug it and plug it in again, and take off its cap."
            )
        return frame

    def close(self) -> None:
        """End the thread and let go of the camera."""
        self._closing.set()
        self._thread.join(_LEAVE_S)

    def _read(self) -> None:
        """The thread: read until `close`."""
        try:
            while not self._closing.is_set():
                try:
                    image, stamp_s = self._source.read()
                except (RobotError, cv2.error) as error:
                    self._reopen(error)
                else:
                    self._take(image, stamp_s)
        finally:
            self._source.close()

    def _take(self, image: ImageArray, stamp_s: float) -> None:
        """A new image (h, w, 3) uint8 BGR, captured at `stamp_s` of `time.monotonic()`."""
        same = self._last is not None and np.array_equal(image, self._last)
        self._repeats = self._repeats + 1 if same else 0
        self._last = image
        self._frame = Frame(fit(image, self._height, self._width), stamp_s + self._offset_s)
        self._lost = False
        self._arrived.set()

    def _reopen(self, error: Exception) -> None:
        """Open a lost source again, as often as it takes."""
        lost_s, wait_s = time.monotonic(), _WAITS_S[0]
        self._lost = True
        _logger.warning("%s; it is opened again as soon as it is there.", error)
        self._source.close()
        while not self._closing.wait(wait_s):
            wait_s = min(2 * wait_s, _WAITS_S[1])
            try:
                self._source.open()
                image, stamp_s = self._source.read()
            except (DriverError, RobotError, cv2.error):
                self._source.close()
                continue
            _logger.warning("The camera %s is back after %.1f s.", self._source.name, time.monotonic() - lost_s)
            self._take(image, stamp_s)
            return


def _offset(clock: Clock) -> float:
    """What to add to `time.monotonic()` for a clock's time (s); the surest of some tries, since any may be held up."""
    tries = []
    for _ in range(20):
        before_s, now_s, after_s = time.monotonic(), clock.now(), time.monotonic()
        tries.append((after_s - before_s, now_s - (before_s + after_s) / 2))
    return min(tries)[1]


def fit(image: ImageArray, height: int, width: int) -> ImageArray:
    """The middle of an image (h, w, 3) uint8 BGR that has the aspect of the size asked for, in that size, as RGB."""
    rows, columns = image.shape[:2]
    high = min(rows, max(1, round(columns * height / width)))
    wide = min(columns, max(1, round(rows * width / height)))
    top, left = (rows - high) // 2, (columns - wide) // 2
    middle = image[top : top + high, left : left + wide]
    # Averages over areas when it shrinks, since single pixels would flicker; lines between pixels when it grows.
    how = cv2.INTER_AREA if high >= height else cv2.INTER_LINEAR
    return cv2.cvtColor(cv2.resize(middle, (width, height), interpolation=how), cv2.COLOR_BGR2RGB)
