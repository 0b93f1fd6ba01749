"""`offbeat camera check | mask`: whether a camera serves, and which of its pixels are the bag."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from offbeat.config import EnvConfig
from offbeat.errors import ConfigError

if TYPE_CHECKING:
    from offbeat.robots.base import Camera
    from offbeat.tasks.visual_reacher import HSV
    from offbeat.timing.clock import Clock
    from offbeat.types import ImageArray

_FAILED = 1  # exit code when a camera does not serve

_Camera = Annotated[str, tyro.conf.arg(metavar="CAMERA")]
_Colour = Annotated[
    str | None, tyro.conf.arg(metavar="H,S,V", help_behavior_hint="(default: what --bag proposes, or the paper's)")
]


@dataclass(frozen=True)
class CameraCheck:
    """Watch a camera: its rate, how even it is, how old images are when they arrive, and a picture of what it sees."""

    camera: _Camera = "0"
    """The camera, as --camera of `offbeat train` says it: 0, /dev/video0, an address, a film, MODULE:FUNCTION."""
    seconds: float = 5.0
    """How long to watch (s)."""
    rate_hz: float = EnvConfig.camera_rate_hz
    """Images a second to ask for (Hz)."""
    height: int = EnvConfig.height
    """Height of the task's images (pixels)."""
    width: int = EnvConfig.width
    """Width of the task's images (pixels)."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("camera.png")
    """Picture to write, for `offbeat camera mask --image`."""

    def __call__(self) -> int:
        """Watch and report; 1 when the camera is too slow or too late. Raises: UserError, StaleFrameError."""
        from offbeat.robots.commission import time_camera

        if not self.seconds > 0:
            raise ConfigError(f"seconds is {self.seconds}: watch for more than 0 s.")
        watching = Console().status(f"Watching {self.camera} for {self.seconds:g} s ...")
        with _opened(self.camera, self.height, self.width, self.rate_hz) as (camera, clock), watching:
            timing = time_camera(camera, clock, self.seconds)
        _write(self.out, timing.newest.image)
        counted = f"{timing.images} images in {timing.seconds:.1f} s"
        _say(f"rate      {timing.rate_hz:.1f} Hz ({self.rate_hz:g} Hz asked for), {counted}")
        _say(f"interval  {timing.interval_ms}")
        _say(f"latency   {timing.latency_ms}, from the stamp to the arrival (light to stamp cannot be measured here)")
        _say(f"Wrote {self.out}, {self.width}x{self.height}.")
        complaints = timing.complaints(self.rate_hz)
        for complaint in complaints:
            _say(complaint)
        return _FAILED if complaints else 0


@dataclass(frozen=True)
class CameraMask:
    """Choose the bag's colours on an image and see what they mark; prints the options to train with.

    Begin with --bag, a rectangle well inside the bag, then change --lower and --upper until the mask holds all of the
    bag and nothing else, in all the light that there will be.
    """

    image: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: one from the camera)")
    ] = None
    """Picture to choose on, for example the one that `offbeat camera check` wrote."""
    camera: _Camera = "0"
    """The camera to take one from, as --camera of `offbeat train` says it."""
    lower: _Colour = None
    """Least hue (0 to 179), saturation and value (0 to 255); a hue above the greatest means across 179."""
    upper: _Colour = None
    """Greatest hue, saturation and value."""
    bag: Annotated[str | None, tyro.conf.arg(metavar="X,Y,W,H", help_behavior_hint="")] = None
    """A rectangle of the image that shows nothing but bag (left, top, width, height in pixels): proposes thresholds."""
    height: int = EnvConfig.height
    """Height of the task's images (pixels)."""
    width: int = EnvConfig.width
    """Width of the task's images (pixels)."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("mask.png")
    """Picture to write: the image, and beside it the mask."""

    def __call__(self) -> int:
        """Mark the bag and say how much of the image it fills. Raises: UserError, StaleFrameError."""
        from offbeat.tasks.colours import Rectangle, picture, propose, shares
        from offbeat.tasks.visual_reacher import mask_share

        image = self._image()
        bag = None if self.bag is None else Rectangle(*_numbers("bag", self.bag, "X,Y,W,H"))
        lower, upper = propose(image, bag) if bag is not None else (EnvConfig.hsv_lower, EnvConfig.hsv_upper)
        lower, upper = _hsv("lower", self.lower, lower), _hsv("upper", self.upper, upper)
        EnvConfig(hsv_lower=lower, hsv_upper=upper)  # refuses what training would refuse
        _write(self.out, picture(image, lower, upper, bag))
        below, above = (" ".join(map(str, hsv)) for hsv in (lower, upper))
        share = mask_share(image, lower, upper)
        _say(f"Hue, saturation and value from {below} to {above}: the mask fills {share:.1%} of the image.")
        if bag is not None:
            within, outside = shares(image, bag, lower, upper)
            _say(f"Of the pixels within the rectangle {within:.1%} have such a colour, of those outside {outside:.1%}.")
        _say(f"Wrote {self.out}: the image, and beside it the mask.")
        _say(f"To train with it: offbeat train ... --env.hsv-lower {below} --env.hsv-upper {above}")
        return 0

    def _image(self) -> ImageArray:
        """The image (H, W, 3) uint8 RGB: a file's own size, or the task's from a camera, which is kept as a file."""
        if self.image is not None:
            return _read(self.image)
        from offbeat.robots.commission import time_camera

        with _opened(self.camera, self.height, self.width, EnvConfig.camera_rate_hz) as (camera, clock):
            image = time_camera(camera, clock, seconds=1.0).newest.image  # its exposure settles meanwhile
        kept = self.out.with_name(f"{self.out.stem}-image.png")
        _write(kept, image)
        _say(f"Wrote {kept}, {self.width}x{self.height}: --image {kept} chooses on it again.")
        return image


@contextlib.contextmanager
def _opened(source: str, height: int, width: int, rate_hz: float) -> Iterator[tuple[Camera, Clock]]:
    """A camera of the registry, or the simulated one, and the clock of its stamps."""
    from offbeat.robots.base import CameraSetup
    from offbeat.robots.registry import SIM_CAMERA, make_camera
    from offbeat.robots.vendor import let_go
    from offbeat.timing.wall import WallClock

    config = EnvConfig(height=height, width=width, camera_rate_hz=rate_hz)
    clock = WallClock(spin_s=0.0)
    if source == SIM_CAMERA:
        from offbeat.robots.served import ServedRig

        with contextlib.closing(ServedRig(config, clock, clock.epoch_s, watchdog_s=1.0)) as rig:
            yield rig.camera, clock
        return
    camera = make_camera(CameraSetup(source, height, width, clock, rate_hz))
    try:
        yield camera, clock
    finally:
        let_go(camera)


def _hsv(name: str, said: str | None, otherwise: HSV) -> HSV:
    if said is None:
        return otherwise
    hue, saturation, value = _numbers(name, said, "H,S,V")
    return hue, saturation, value


def _numbers(name: str, said: str, form: str) -> tuple[int, ...]:
    """Whole numbers with commas between them. Raises: ConfigError when they are others or of another count."""
    try:
        numbers = tuple(int(part) for part in said.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != form.count(",") + 1:
        raise ConfigError(f"{name} is {said!r}: give {form.count(',') + 1} whole numbers as {form}, without spaces.")
    return numbers


def _read(path: Path) -> ImageArray:
    """A picture (H, W, 3) uint8 RGB. Raises: ConfigError when there is none."""
    import cv2

    if not path.is_file():
        raise ConfigError(f"There is no picture {path}: `offbeat camera check` writes one.")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ConfigError(f"{path} is no picture that can be read: give a PNG or a JPEG.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _write(path: Path, image: ImageArray) -> None:
    """Write a picture (H, W, 3) uint8 RGB. Raises: ConfigError when that cannot be."""
    import cv2

    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        written = False
    if not written:
        raise ConfigError(f"{path} cannot be written: give --out a file that ends in .png in a directory that exists.")


def _say(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)
