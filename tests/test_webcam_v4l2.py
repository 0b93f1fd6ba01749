"""The camera's reader on OpenCV's own V4L2 backend, which a camera that is not there answers (fake_v4l2.c)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fake_camera import COMPILER, DEVICE, MAX_AGE_S, RATE_HZ, FakeCamera

from offbeat.robots.webcam import FROZEN_FRAMES

pytestmark = pytest.mark.slow  # for what it measures it wants the machine to itself


@dataclass(frozen=True)
class Record:
    """What was seen of the V4L2 camera (see `fake_camera.main`), and when its troubles began and ended (s)."""

    images: list[tuple[float, float, int]]
    errors: list[tuple[float, str]]
    log: list[tuple[float, str]]
    times_s: dict[str, tuple[float, float]]

    def between(self, begin_s: float, end_s: float) -> list[tuple[float, float, int]]:
        """Images seen between two instants (s)."""
        return [image for image in self.images if begin_s <= image[1] < end_s]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A camera watched for four seconds that goes well at first, then freezes, is unplugged and gets stuck."""
    if COMPILER is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    fake = FakeCamera(tmp_path_factory.mktemp("v4l2"))
    command = [sys.executable, str(Path(__file__).with_name("fake_camera.py")), DEVICE, "90", "160"]
    times_s: dict[str, tuple[float, float]] = {}
    with subprocess.Popen(
        command, env=fake.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        begin_s = time.monotonic()
        time.sleep(0.6)
        times_s["well"] = begin_s, time.monotonic()
        for trouble, seconds, after_s in (("frozen", 0.9, 0.3), ("unplugged", 0.4, 0.5), ("stuck", 0.5, 1.2)):
            begin_s = fake.begin(trouble)
            time.sleep(seconds)
            times_s[trouble] = begin_s, fake.end(trouble)
            time.sleep(after_s)
        seen = json.loads(process.communicate()[0])
    assert process.returncode == 0
    return Record(**seen, times_s=times_s)


def test_v4l2_images_come_at_the_cameras_rate_with_its_stamps(record: Record) -> None:
    images = record.between(*record.times_s["well"])
    assert np.median(np.diff([captured_s for captured_s, _, _ in images])) == pytest.approx(1 / RATE_HZ, abs=1e-4)
    assert len(images) > 0.3 * RATE_HZ  # a busy machine loses some
    first_s, _, first = images[0]
    for captured_s, _, number in images:
        ticks = (captured_s - first_s) * RATE_HZ
        # The driver stamps in microseconds, and what it shows at a tick has that tick's number.
        assert ticks == pytest.approx(round(ticks), abs=1e-3)
        assert number == (first + round(ticks)) % 64


def test_v4l2_images_are_young_when_they_come(record: Record) -> None:
    ages_s = [seen_s - captured_s for captured_s, seen_s, _ in record.between(*record.times_s["well"])]
    assert min(ages_s) > 0.0
    assert np.median(ages_s) < 1.5 / RATE_HZ


def test_no_v4l2_image_is_refused_for_nothing(record: Record) -> None:
    ages = [re.search(r"is (\d+\.\d+) s old and 0\.15 s is allowed;", sentence) for _, sentence in record.errors]
    assert all(float(age[1]) >= MAX_AGE_S for age in ages if age)
    assert sum(age is None for age in ages) == sum("has frozen" in sentence for _, sentence in record.errors)


def test_a_frozen_v4l2_camera_is_refused_until_it_goes_on(record: Record) -> None:
    begin_s, end_s = record.times_s["frozen"]
    told_s, sentence = next(error for error in record.errors if "has frozen" in error[1])
    assert begin_s + 0.8 * FROZEN_FRAMES / RATE_HZ < told_s < end_s
    assert sentence.startswith(f"The camera {DEVICE} has frozen")
    assert [number for _, seen_s, number in record.images if end_s + 0.1 < seen_s < end_s + 0.3]


@pytest.mark.parametrize("trouble", ["unplugged", "stuck"])
def test_a_lost_v4l2_camera_is_stale_and_comes_back(record: Record, trouble: str) -> None:
    begin_s, end_s = record.times_s[trouble]
    lost_s = next(seen_s for seen_s, _ in record.errors if seen_s > begin_s)
    assert lost_s < end_s
    back_s = next(seen_s for _, seen_s, _ in record.images if seen_s > end_s)
    assert back_s < end_s + 1.5
    told = [sentence for told_s, sentence in record.log if begin_s < told_s < back_s + 0.1]
    assert len(told) == 2
    assert told[0] == (
        f"The camera {DEVICE} gives no images any more (is it unplugged?); it is opened again as soon as it is there."
    )
    assert told[1].startswith(f"The camera {DEVICE} is back after ")
    errors = [sentence for told_s, sentence in record.errors if begin_s < told_s < back_s]
    assert any("gives no images any more" in sentence for sentence in errors)
    assert record.images[-1][1] > record.times_s["stuck"][1] + 1.0  # and stays
