"""`offbeat camera check | mask`: on a V4L2 camera that is not there, on films and on saved pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_camera import COMPILER, DEVICE, FakeCamera, numbered

from offbeat.cli import main, parse
from offbeat.tasks.visual_reacher import bag_mask

RED, GREY = (40, 40, 200), (150, 150, 150)  # as OpenCV orders them


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A picture of the task's size with a bag of 40 by 20 pixels."""
    image = np.full((90, 160, 3), GREY, np.uint8)
    image[30:50, 60:100] = RED
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), image)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Thirty images of 320x240 at 30 a second, a bag in their middle."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (320, 240))
    image = np.full((240, 320, 3), GREY, np.uint8)
    image[100:140, 120:200] = RED
    for _ in range(30):
        writer.write(image)
    writer.release()
    return path


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None or not sys.platform.startswith("linux"), reason="needs Linux and a C compiler")
def test_check_measures_a_v4l2_camera_and_saves_what_it_sees(tmp_path: Path) -> None:
    fake = FakeCamera(tmp_path)
    out = tmp_path / "camera.png"
    arguments = ["--camera", DEVICE, "--seconds", "1", "--rate-hz", "60", "--out", str(out)]
    command = [sys.executable, "-m", "offbeat", "camera", "check", *arguments]
    result = subprocess.run(command, env=fake.environment, capture_output=True, text=True, timeout=60)
    rate, interval, latency = (result.stdout.splitlines()[line] for line in range(3))
    assert rate.startswith("rate      60.0 Hz (60 Hz asked for), ")
    assert interval.startswith("interval  median 16.7 ms, ")
    assert latency.startswith("latency   median ") and float(latency.split()[2]) < 25.0
    assert result.stderr == ""
    image = cv2.imread(str(out))
    assert image.shape == (90, 160, 3)
    assert image.std() < 1.0  # grey all over, as numbered images are


def test_check_complains_of_a_slow_camera(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--camera", str(film), "--seconds", "0.5", "--rate-hz", "60", "--out", str(tmp_path / "camera.png")]
    assert main(["camera", "check", *arguments]) == 1
    assert re.search(r"Slow: [23]\d\.\d images a second where 60 were asked for\.", capsys.readouterr().out)


def test_check_of_the_simulated_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "camera.png"
    size = ["--height", "36", "--width", "64"]
    main(["camera", "check", "--camera", "sim", "--seconds", "0.5", *size, "--out", str(out)])
    assert "latency   median " in capsys.readouterr().out
    image = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)
    assert bag_mask(image).any()


def test_mask_proposes_thresholds_from_a_rectangle_and_says_how_to_use_them(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mask.png"
    assert main(["camera", "mask", "--image", str(scene), "--bag", "65,33,30,14", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "the mask fills 5.6% of the image." in said  # 40 x 20 of 160 x 90
    assert "within the rectangle 100.0% have such a colour, of those outside 2.7%." in said
    options = said.splitlines()[-1].removeprefix("To train with it: offbeat train ... ").split()
    env = parse(["train", *options, "--out", str(tmp_path / "run")]).config.env
    hue = int(cv2.cvtColor(np.uint8([[RED]]), cv2.COLOR_BGR2HSV)[0, 0, 0])
    assert (env.hsv_lower[0] - hue) % 180 == 175 and (env.hsv_upper[0] - hue) % 180 == 5
    both = cv2.imread(str(out))
    assert both.shape == (360, 1280, 3)
    assert (both[:, 640:, 0] > 127).mean() == pytest.approx(800 / 14400)


def test_mask_takes_thresholds_and_otherwise_the_papers(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "mask.png")]
    assert main(["camera", "mask", "--image", str(scene), *out]) == 0
    assert "from 151 155 84 to 179 255 255: the mask fills 0.0% of the image." in capsys.readouterr().out
    assert main(["camera", "mask", "--image", str(scene), "--lower", "170,100,90", "--upper", "10,255,255", *out]) == 0
    assert "from 170 100 90 to 10 255 255: the mask fills 5.6% of the image." in capsys.readouterr().out


def test_mask_on_the_live_camera_keeps_the_image(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mask.png"
    assert main(["camera", "mask", "--camera", str(film), "--bag", "65,38,30,14", "--out", str(out)]) == 0
    kept = tmp_path / "mask-image.png"
    assert f"Wrote {kept}, 160x90: --image {kept} chooses on it again." in capsys.readouterr().out
    assert cv2.imread(str(kept)).shape == (90, 160, 3)


WRONG = {
    "no picture": (["--image", "none.png"], "There is no picture none.png: `offbeat camera check` writes one."),
    "not a picture": (["--image", __file__], "is no picture that can be read: give a PNG or a JPEG."),
    "two numbers": (["--lower", "1,2"], "lower is '1,2': give 3 whole numbers as H,S,V, without spaces."),
    "letters": (["--upper", "a,b,c"], "upper is 'a,b,c': give 3 whole numbers as H,S,V"),
    "too much hue": (["--lower", "200,0,0"], "hsv_lower is (200, 0, 0): use a hue of 0 to 179"),
    "outside": (["--bag", "150,80,40,40"], "The rectangle 150,80,40,40 is not within the image of 160x90"),
    "grey": (["--bag", "0,0,20,20"], "The rectangle shows no colour to speak of"),
    "three numbers": (["--bag", "1,2,3"], "bag is '1,2,3': give 4 whole numbers as X,Y,W,H"),
    "no directory": (["--out", "none/mask.png"], "none/mask.png cannot be written"),
    "no format": (["--out", "mask"], "mask cannot be written: give --out a file that ends in .png"),
}


@pytest.mark.parametrize(("arguments", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_a_mask_is_one_sentence(
    arguments: list[str],
    sentence: str,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    image = [] if "--image" in arguments else ["--image", str(scene)]
    assert main(["camera", "mask", *image, *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_what_is_wrong_with_a_check_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["camera", "check", "--camera", "62"]) == 2
    assert "There is no camera /dev/video62" in capsys.readouterr().err
    assert main(["camera", "check", "--seconds", "0"]) == 2
    assert "seconds is 0.0: watch for more than 0 s." in capsys.readouterr().err


def test_numbered_images_can_be_told_apart_after_compression() -> None:
    for number in (0, 1, 62, 63):
        code = cv2.imencode(".jpg", numbered(number))[1]
        assert np.abs(cv2.imdecode(code, cv2.IMREAD_COLOR).astype(int) - 4 * number).max() <= 1
