"""A short film of what a run learned: the scene on the left, the wrist camera's view on the right, a caption below.

The policy plays in an environment of its own, on a clock of its own, under the timing it was trained under: a
sequential run's command still waits for a sample and an update that are charged but not made.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from offbeat.config import RunConfig
from offbeat.errors import RunError, UserError
from offbeat.tasks.visual_reacher import bag_mask
from offbeat.timing.clock import Clock
from offbeat.timing.profile import Stage
from offbeat.types import FloatArray, ImageArray, Observation

log = logging.getLogger(__name__)

LARGEST_BYTES = 1_500_000
"""A film that would be larger is written again with fewer pixels."""

FILM_SEED = 7_777_777
"""Seed of the starts that are filmed; far from the seeds that runs train under."""

_RATE_HZ = 12.0  # fewer images a second are drawn than that only when the action cycle is longer
_INK, _SOFT, _PAGE, _OUTLINE = (240, 240, 240), (170, 176, 182), (24, 27, 31), (64, 224, 255)


class Player(Protocol):
    """What acts in the film; a learned `Policy` or any stand-in."""

    def act(self, observation: Observation, deterministic: bool = False) -> FloatArray:
        """An action (N,) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class Moment:
    """One picture of a film before it is composed.

    scene: (H, W, 3) uint8 RGB. wrist: (h, w, 3) uint8 RGB, the image the agent saw. time_s: since the episode began.
    return_: of the episode so far. response_s: of the last command.
    """

    scene: ImageArray
    wrist: ImageArray
    time_s: float
    return_: float
    response_s: float


def make_film(
    run_directory: Path | str, out_path: Path | str, episodes: int = 1, size: tuple[int, int] = (896, 400)
) -> Path | None:
    """Film the learned policy of a finished run.

    run_directory: a run with a checkpoint. out_path: where to write; its suffix becomes .webp where this machine
    cannot write WebM. episodes: 1 or 2. size: (width, height) of the film (pixels).
    Returns the path written, or None for a dry run, which has learned nothing. Raises: RunError when the run has no
    checkpoint that can be read.
    """
    from offbeat.run import build_player  # torch and the simulator are loaded only for a film

    config, env, policy, clock = build_player(Path(run_directory), FILM_SEED)
    try:
        if policy is None:
            return None
        moments = [moment for _ in range(episodes) for moment in play(config, env, policy, clock)]
    finally:
        env.close()
    interval_s = moments[1].time_s - moments[0].time_s
    return write_film([compose(moment, size, config.schedule) for moment in moments], Path(out_path), 1 / interval_s)


def play(config: RunConfig, env: Any, policy: Player, clock: Clock) -> Iterator[Moment]:
    """One episode of the policy's own mode, at the response time of the schedule it was trained under."""
    before, after = _charges(config.schedule)
    every = max(1, round(1 / (_RATE_HZ * config.env.cycle_s)))
    observation, _ = env.reset()
    step, return_, truncated, terminated = 0, 0.0, False, False
    while not (terminated or truncated):
        for stage in before if step else ():
            with clock.stage(stage):
                pass
        with clock.stage(Stage.ACT):
            action = policy.act(observation, deterministic=True)
        env.send(action)
        for stage in after:
            with clock.stage(stage):
                pass
        observation, reward, terminated, truncated, info = env.receive()
        step += 1
        return_ += float(reward)
        if step % every == 0:
            wrist = observation["image"][..., -3:]
            yield Moment(env.render(), wrist, step * config.env.cycle_s, return_, float(info["response_s"]))


def _charges(schedule: str) -> tuple[Sequence[Stage], Sequence[Stage]]:
    """Stages that stand before and after the command of a cycle; asynchronously learning costs the cycle nothing."""
    learn = (Stage.STORE, Stage.SAMPLE, Stage.UPDATE)
    return {"sequential": (learn, ()), "reactive": ((), learn)}.get(schedule, ((), (Stage.STORE,)))


def compose(moment: Moment, size: tuple[int, int], title: str) -> ImageArray:
    """One picture of the film, (height, width, 3) uint8 RGB for a size of (width, height)."""
    width, height = size
    caption = max(28, height // 10)
    view = height - caption
    picture = np.full((height, width, 3), _PAGE, np.uint8)
    left = _fit(moment.scene, width // 2, view, cv2.INTER_AREA)
    right = _fit(outline(moment.wrist, width - width // 2, view), width - width // 2, view, cv2.INTER_NEAREST)
    _paste(picture, left, (0, 0), (width // 2, view))
    _paste(picture, right, (width // 2, 0), (width - width // 2, view))
    text = f"{moment.time_s:4.1f} s    return {moment.return_:5.0f}    response {moment.response_s * 1e3:4.1f} ms"
    scale, baseline = caption / 52, height - caption // 3
    cv2.putText(picture, title, (10, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, _SOFT, 1, cv2.LINE_AA)
    middle = width // 2 - width // 8
    cv2.putText(picture, text, (middle, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    return picture


def outline(wrist: ImageArray, width: int, height: int) -> ImageArray:
    """The wrist image, enlarged by whole pixels to fit width x height, with the task's mask outlined."""
    factor = max(1, min(width // wrist.shape[1], height // wrist.shape[0]))
    grown = np.repeat(np.repeat(wrist, factor, axis=0), factor, axis=1)
    mask = np.repeat(np.repeat(bag_mask(np.ascontiguousarray(wrist)), factor, axis=0), factor, axis=1)
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    grown = np.ascontiguousarray(grown)
    cv2.drawContours(grown, edges, -1, _OUTLINE, 2)
    return grown


def write_film(pictures: Sequence[ImageArray], path: Path, rate_hz: float) -> Path:
    """Write pictures (H, W, 3) uint8 RGB as WebM, or as an animated WebP where OpenCV cannot, under 1.5 MB.

    Returns the path written. Raises: RunError when neither can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = _write(pictures, path, rate_hz)
    for shrink in (0.7, 0.5):
        if written.stat().st_size > LARGEST_BYTES:
            log.info("%s is larger than %d bytes: writing it again with fewer pixels", written, LARGEST_BYTES)
            written = _write([_scale(picture, shrink) for picture in pictures], path, rate_hz)
    return written


def _write(pictures: Sequence[ImageArray], path: Path, rate_hz: float) -> Path:
    webm = _write_webm(pictures, path.with_suffix(".webm"), rate_hz)
    return webm or _write_webp(pictures, path.with_suffix(".webp"), rate_hz)


def _write_webm(pictures: Sequence[ImageArray], path: Path, rate_hz: float) -> Path | None:
    """The film as WebM, or None where this build of OpenCV cannot encode it or read back what it encoded."""
    height, width = pictures[0].shape[:2]
    for codec in ("VP80", "VP90"):  # VP8 first: OpenCV leaves VP9 at its slowest setting
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate_hz, (width, height))
        try:
            for picture in pictures if writer.isOpened() else ():
                writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        finally:
            writer.release()
        if path.is_file() and count_pictures(path) == len(pictures):
            return path
        path.unlink(missing_ok=True)
    return None


def _write_webp(pictures: Sequence[ImageArray], path: Path, rate_hz: float) -> Path:
    try:
        from PIL import Image  # an optional library; matplotlib brings it
    except ImportError as error:
        raise RunError("This OpenCV writes no WebM and Pillow is missing: `pip install pillow` for a film.") from error
    first, *rest = [Image.fromarray(picture) for picture in pictures]
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / rate_hz), loop=0, quality=60, method=2)
    return path


def count_pictures(path: Path) -> int:
    """How many pictures of a film can be decoded; 0 for a file that is no film."""
    reader = cv2.VideoCapture(str(path))
    try:
        count = 0
        while reader.isOpened() and reader.read()[0]:
            count += 1
        return count
    finally:
        reader.release()


def _scale(picture: ImageArray, factor: float) -> ImageArray:
    """The picture at `factor` of its size; encoders want even numbers of pixels."""
    height, width = (2 * round(factor * size / 2) for size in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _fit(image: ImageArray, width: int, height: int, shrink: int) -> ImageArray:
    """The image at the largest size within width x height that keeps its shape."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    result: Any = cv2.resize(image, size, interpolation=shrink if scale < 1 else cv2.INTER_NEAREST)
    return np.asarray(result, np.uint8)


def _paste(picture: ImageArray, image: ImageArray, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Put the image in the middle of a box of `size` (width, height) at `corner` (x, y)."""
    x = corner[0] + (size[0] - image.shape[1]) // 2
    y = corner[1] + (size[1] - image.shape[0]) // 2
    picture[y : y + image.shape[0], x : x + image.shape[1]] = image


def main(arguments: Sequence[str]) -> int:
    """`python -m offbeat.film RUN OUT`: what the demonstration runs beside itself. Returns the exit code."""
    try:
        make_film(arguments[0], arguments[1])
    except UserError as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
