"""The camera's reader, on scripted sources, on films and on a stream; test_webcam_v4l2.py has the cameras."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_camera import number_of, numbered

from offbeat.errors import DriverError, RobotError, StaleFrameError
from offbeat.robots import video, webcam
from offbeat.robots.base import CameraSetup
from offbeat.robots.webcam import FROZEN_FRAMES, Webcam, fit, make_webcam
from offbeat.timing.wall import WallClock
from offbeat.types import Frame


class Script:
    """A source that does what it is told, one entry of a list a read, and then waits to be closed."""

    name = "scripted"

    def __init__(self, *entries: Any) -> None:
        self.entries = list(entries)
        self.opened, self.closed = 0, 0
        self.refuses = 0  # how often it cannot be opened again
        self.ended = threading.Event()

    def open(self) -> None:
        self.opened += 1
        if self.opened > 1 and self.refuses > 0:
            self.refuses -= 1
            raise DriverError("not there")

    def read(self) -> tuple[np.ndarray, float]:
        if not self.entries:
            self.ended.set()
            time.sleep(0.005)
            raise RobotError("it has ended")
        entry = self.entries.pop(0)
        if isinstance(entry, Exception):
            raise entry
        return entry if isinstance(entry, tuple) else (entry, time.monotonic())

    def close(self) -> None:
        self.closed += 1


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.002)


@pytest.fixture
def clock() -> WallClock:
    return WallClock(epoch_s=time.monotonic() - 50.0)


@pytest.fixture
def watch(clock: WallClock) -> Iterator[Callable[..., Webcam]]:
    cameras: list[Webcam] = []

    def make(source: Any, **options: Any) -> Webcam:
        cameras.append(Webcam(source, 9, 16, clock, **options))
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.close()


def test_the_middle_is_cut_to_the_tasks_aspect_and_becomes_rgb() -> None:
    blue, green, red = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # as OpenCV orders them
    image = np.zeros((100, 400, 3), np.uint8)
    image[:, :100], image[:, 100:300], image[:, 300:] = blue, green, red
    square = fit(image, 50, 50)
    assert square.shape == (50, 50, 3)
    assert (square == (0, 255, 0)).all()
    whole = fit(image, 25, 100)
    assert (whole[:, :24] == (0, 0, 255)).all()
    assert (whole[:, 76:] == (255, 0, 0)).all()
    upright = fit(np.ascontiguousarray(image.transpose(1, 0, 2)), 50, 50)
    assert (upright == (0, 255, 0)).all()


def test_shrinking_averages_and_growing_keeps() -> None:
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(fit(stripes, 20, 40), 100)
    assert fit(numbered(7, 10, 20), 40, 80).shape == (40, 80, 3)


def test_the_newest_image_comes_with_its_stamp_on_the_runs_clock(
    watch: Callable[..., Webcam], clock: WallClock
) -> None:
    stamp_s = time.monotonic() - 0.01
    source = Script(numbered(1), (numbered(2), stamp_s))
    camera = watch(source)
    source.ended.wait(5.0)
    frame = camera.read_latest(1.0)
    assert number_of(frame.image) == 2
    assert frame.captured_s == pytest.approx(stamp_s - clock.epoch_s, abs=1e-3)
    assert frame.image.shape == (9, 16, 3)


def test_an_old_image_is_refused_with_its_age(watch: Callable[..., Webcam]) -> None:
    source = Script((numbered(1), time.monotonic() - 0.6))
    camera = watch(source)
    with pytest.raises(StaleFrameError, match=r"its newest image is 0\.6\d\d s old and 0\.2 s is allowed; "):
        camera.read_latest(0.2)


def test_a_frozen_camera_is_found_out_and_forgiven(watch: Callable[..., Webcam]) -> None:
    source = Script(*[numbered(3)] * 5)
    camera = watch(source, frozen_frames=4)
    source.ended.wait(5.0)
    with pytest.raises(StaleFrameError, match=r"has frozen: it gave one image 5 times in a row\. Unplug it"):
        camera.read_latest(10.0)
    nearly = numbered(3)
    nearly[0, 0, 0] += 1
    source.entries = [nearly]
    wait_for(lambda: not source.entries)
    wait_for(lambda: _reads(camera))


def _reads(camera: Webcam) -> Frame | None:
    try:
        return camera.read_latest(10.0)
    except StaleFrameError:
        return None


def test_a_film_may_stand_still(watch: Callable[..., Webcam]) -> None:
    source = Script(*[numbered(3)] * (2 * FROZEN_FRAMES))
    camera = watch(source, frozen_frames=0)
    source.ended.wait(5.0)
    assert number_of(camera.read_latest(10.0).image) == 3


def test_a_lost_camera_is_opened_again_and_told_of_once(
    watch: Callable[..., Webcam], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webcam, "_WAITS_S", (0.01, 0.04))
    source = Script(numbered(1), RobotError("The camera scripted gives no images any more (is it unplugged?)"))
    source.refuses = 3
    source.entries.append(numbered(2))
    with caplog.at_level(logging.WARNING):
        camera = watch(source)
        wait_for(lambda: source.opened >= 5)
        wait_for(lambda: number_of(camera.read_latest(10.0).image) == 2)
    told = [record.getMessage() for record in caplog.records][:2]
    assert told[0] == (
        "The camera scripted gives no images any more (is it unplugged?); it is opened again as soon as it is there."
    )
    assert told[1].startswith("The camera scripted is back after 0.")


def test_while_a_camera_is_lost_the_error_says_so(watch: Callable[..., Webcam]) -> None:
    source = Script((numbered(1), time.monotonic() - 0.5))
    source.refuses = 10_000
    camera = watch(source)
    wait_for(lambda: source.opened > 1)
    with pytest.raises(
        StaleFrameError, match=r"scripted gives no images any more \(is it unplugged\?\): its newest image"
    ):
        camera.read_latest(0.2)


def test_a_camera_without_images_is_refused_at_the_start(clock: WallClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam, "_FIRST_IMAGE_S", 0.05)
    source = Script()
    with pytest.raises(DriverError, match=r"The camera scripted gave no image within 0\.05 s: unplug it"):
        Webcam(source, 9, 16, clock)
    assert source.closed >= 1


def setup(source: str, clock: WallClock) -> CameraSetup:
    return CameraSetup(source, 90, 160, clock, 30.0)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("62", r"There is no camera /dev/video62 \(there is .+\): plug it in, or say another with --camera\."),
        ("/dev/null", r"/dev/null cannot be opened as a camera: another program may be using it"),
        ("films/none.mp4", r"There is no file films/none\.mp4: check the path that --camera gives\."),
        (__file__, r"test_webcam\.py holds no video that can be read: convert it to MP4 or AVI\."),
        ("http://127.0.0.1:9/none", r"No video can be had from http://127\.0\.0\.1:9/none: check the address"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(source: str, sentence: str, clock: WallClock) -> None:
    with pytest.raises(DriverError, match=sentence):
        make_webcam(setup(source, clock))


def test_a_camera_that_may_not_be_opened_says_which_group_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: WallClock
) -> None:
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(video.os, "access", lambda *_: False)
    with pytest.raises(DriverError, match=r"You may not open .+: join its group with `sudo usermod -aG \w+ \$USER`"):
        video.Device(str(device), 90, 160, 30.0).open()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten images at 25 a second."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 180))
    for number in range(10):
        writer.write(numbered(6 * number))
    writer.release()
    return path


def watched(camera: Webcam, seconds: float) -> list[tuple[float, int]]:
    """Stamps (s) and numbers of the images that a camera gave in some seconds."""
    seen: list[tuple[float, int]] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        frame = camera.read_latest(1.0)
        if not seen or frame.captured_s > seen[-1][0]:
            seen.append((frame.captured_s, number_of(frame.image)))
        time.sleep(0.002)
    return seen


def test_a_film_plays_at_its_own_rate_and_begins_again(film: Path, clock: WallClock) -> None:
    camera = make_webcam(setup(str(film), clock))
    try:
        seen = watched(camera, 0.9)
    finally:
        camera.close()
    first_s, first = seen[0]
    for stamp_s, number in seen:
        turns = (stamp_s - first_s) * 25.0
        assert turns == pytest.approx(round(turns), abs=0.02)
        assert number == 6 * ((first // 6 + round(turns)) % 10)
    assert 10 < round((seen[-1][0] - first_s) * 25.0) < 25  # further than its end


class _Sender(BaseHTTPRequestHandler):
    """Motion JPEG over HTTP, 25 images a second, until the server's `on` is cleared."""

    on = threading.Event()

    def do_GET(self) -> None:
        if not self.on.is_set():
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        number = 0
        while self.on.is_set():
            number = (number + 1) % 64
            image = cv2.imencode(".jpg", numbered(number))[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + image + b"\r\n")
            except OSError:
                return
            time.sleep(0.04)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_stream_is_shown_as_it_comes_and_taken_up_again(clock: WallClock, caplog: pytest.LogCaptureFixture) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sender)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Sender.on.set()
    camera = make_webcam(setup(f"http://127.0.0.1:{server.server_port}/video.mjpg", clock))
    try:
        before = watched(camera, 0.5)
        assert len(before) >= 3
        _Sender.on.clear()
        wait_for(lambda: "gives no images any more (has its sender stopped?)" in caplog.text)
        _Sender.on.set()
        wait_for(lambda: "is back after" in caplog.text)
        assert len(watched(camera, 0.3)) >= 2
    finally:
        _Sender.on.clear()
        camera.close()
        server.shutdown()
        server.server_close()
