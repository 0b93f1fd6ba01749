"""The visual-reacher task: bring the camera close to the red bag and keep it there (section 4 of the paper)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from offbeat.arms import ARMS, Arm, RobotName
from offbeat.config_parts import EnvConfig
from offbeat.robots.base import Placement, Robot
from offbeat.robots.models import MODELS
from offbeat.types import FloatArray, ImageArray

REWARD_SCALE = 0.25
"""Eq. 3's factor, per millisecond of a cycle in which the bag fills the image."""

HSV = tuple[int, int, int]
"""Hue (0 to 179), saturation and value (0 to 255), in OpenCV's ranges."""
HSV_LOWER, HSV_UPPER = EnvConfig.hsv_lower, EnvConfig.hsv_upper
_KERNEL = np.ones((3, 3), np.uint8)
# The closing's five rounds belong to images of at least this height; smaller ones get as many as cover the same view.
_FULL_HEIGHT = 90
_ROUNDS = 5

MOVE_TIMEOUT_S = 4.0
# A move may end 0.02 rad short of its pose, which is up to 2 cm at the flange.
_START_MARGIN_M = 0.025
# The bag of a fast reset lies within so many standard deviations of its mean place.
_BAG_SPREAD = 2.0


def bag_mask(image: ImageArray, lower: HSV = HSV_LOWER, upper: HSV = HSV_UPPER) -> NDArray[np.uint8]:
    """Where the bag is: (H, W, 3) uint8 RGB to (H, W) uint8, 0 or 1.

    Pixels in the HSV range, closed by five dilations and five erosions with a 3x3 kernel.
    """
    return (_closed_mask(image, lower, upper) > 0).astype(np.uint8)


def mask_share(image: ImageArray, lower: HSV = HSV_LOWER, upper: HSV = HSV_UPPER) -> float:
    """Share of the image that the bag fills, 0 to 1."""
    mask = _closed_mask(image, lower, upper)
    return cv2.countNonZero(mask) / mask.size


def in_range(image: ImageArray, lower: HSV, upper: HSV) -> NDArray[np.uint8]:
    """Pixels between two colours: (H, W, 3) uint8 RGB to (H, W) uint8, 0 or 255.

    A lower hue above the upper one means the hues from it over 179 and 0 to the upper one.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if lower[0] <= upper[0]:
        return cv2.inRange(hsv, lower, upper)
    return cv2.inRange(hsv, lower, (179, *upper[1:])) | cv2.inRange(hsv, (0, *lower[1:]), upper)


def _closed_mask(image: ImageArray, lower: HSV, upper: HSV) -> NDArray[np.uint8]:
    """The mask (H, W), 0 or 255."""
    mask = in_range(image, lower, upper)
    rounds = max(1, min(_ROUNDS, round(_ROUNDS * image.shape[0] / _FULL_HEIGHT)))
    return cv2.erode(cv2.dilate(mask, _KERNEL, iterations=rounds), _KERNEL, iterations=rounds)


def reward(share: float, cycle_s: float) -> float:
    """Eq. 3: reward_scale x cycle in milliseconds x share of mask pixels; at most 10 a step at 40 ms."""
    return REWARD_SCALE * 1000.0 * cycle_s * share


def reset_poses(rng: np.random.Generator, arm: Arm) -> tuple[FloatArray, FloatArray]:
    """Two joint positions (N,) rad: the first lifts and swings the bag, the second looks at the table."""
    lift = [rng.uniform(*angle) if isinstance(angle, tuple) else angle for angle in arm.lift_rad]
    look = [rng.uniform(*angle) if isinstance(angle, tuple) else angle for angle in arm.look_rad]
    return np.array(lift), np.array(look)


class VisualReacher:
    """The task as the environment asks for it. Implements `Task`."""

    def __init__(
        self,
        box_m: tuple[FloatArray, FloatArray] | None = None,
        robot: RobotName = "panda",
        hsv: tuple[HSV, HSV] = (HSV_LOWER, HSV_UPPER),
    ) -> None:
        """box_m: corners (3,) m of the box in which an episode begins, lower then upper; None: at the paper's pose.

        robot: the arm. hsv: least and greatest colour of the bag.
        """
        self._box_m, self._arm, self._model, self._hsv = box_m, ARMS[robot], MODELS[robot], hsv

    def reset(self, robot: Robot, rng: np.random.Generator) -> None:
        """The paper's two moves. Raises: MoveTimeoutError when one does not arrive within 4 s."""
        for pose in self._poses(rng):
            robot.move_to(pose, MOVE_TIMEOUT_S)

    def placement(self, rng: np.random.Generator) -> Placement:
        """A start for a simulator that can place things at once: as the two moves would leave it."""
        look = self._poses(rng)[1]
        spread = np.clip(rng.normal(size=2), -_BAG_SPREAD, _BAG_SPREAD) * self._arm.bag_std_m
        bag = self._model.forward_kinematics(look)[:2, 3] + (self._arm.bag_forward_m, 0.0) + spread
        return Placement(look, bag, float(rng.uniform(-np.pi, np.pi)))

    def _poses(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        lift, look = reset_poses(rng, self._arm)
        if self._box_m is None:
            return lift, look
        flange = self._model.forward_kinematics(look)[:3, 3]
        inside = np.clip(flange, self._box_m[0] + _START_MARGIN_M, self._box_m[1] - _START_MARGIN_M)
        return lift, self._model.reach(look, inside)

    def share(self, image: ImageArray) -> float:
        """Share of the newest image that the bag fills, 0 to 1."""
        return mask_share(image, *self._hsv)

    def reward(self, share: float, cycle_s: float) -> float:
        """Eq. 3."""
        return reward(share, cycle_s)
