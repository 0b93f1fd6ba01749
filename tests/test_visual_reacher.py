"""The task against the paper: Eq. 3 by hand, the mask on the paper's own picture, and the reset."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from offbeat.arms import ARMS, RobotName
from offbeat.robots.models import MODELS
from offbeat.robots.models.panda import PANDA
from offbeat.tasks.visual_reacher import (
    HSV_LOWER,
    HSV_UPPER,
    VisualReacher,
    bag_mask,
    mask_share,
    reset_poses,
    reward,
)

RED = (240, 40, 70)
GREY = (150, 150, 150)


def picture(height: int = 90, width: int = 160) -> np.ndarray:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = GREY
    return image


def test_equation_3_by_hand() -> None:
    # 0.25 per ms, 40 ms, a mask that fills 3.2% of the image.
    assert reward(0.032, 0.040) == pytest.approx(0.32)
    # The highest possible return of a 6 s episode, whatever the cycle.
    assert 150 * reward(1.0, 0.040) == pytest.approx(1500)
    assert 80 * reward(1.0, 0.075) == pytest.approx(1500)


def test_mask_marks_red_and_nothing_else() -> None:
    image = picture()
    image[20:40, 30:70] = RED
    mask = bag_mask(image)
    expected = np.zeros((90, 160), np.uint8)
    expected[20:40, 30:70] = 1
    np.testing.assert_array_equal(mask, expected)
    assert mask_share(image) == pytest.approx(800 / 14400)


def test_mask_channels_are_red_green_blue() -> None:
    image = picture()
    image[20:40, 30:70] = RED[::-1]
    assert mask_share(image) == 0.0


def test_closing_bridges_a_thread_across_the_bag() -> None:
    image = picture()
    image[20:50, 30:70] = RED
    image[20:50, 48:52] = (140, 200, 225)
    assert bag_mask(image)[20:50, 30:70].all()


def test_closing_is_as_wide_in_the_world_at_small_images() -> None:
    image = picture(36, 64)
    image[10:20, 10:20] = RED
    image[10:20, 26:36] = RED  # 6 pixels apart: bridged by five rounds, not by the two that a small image gets
    assert bag_mask(image)[10:20, 20:26].sum() == 0


def test_mask_of_the_papers_picture() -> None:
    path = Path(__file__).parents[2] / "shared" / "paper" / "wrist_image.png"
    if not path.exists():
        pytest.skip("the paper's picture is not beside this checkout")
    image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
    raw = cv2.inRange(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), HSV_LOWER, HSV_UPPER) > 0
    assert raw.mean() == pytest.approx(0.032, abs=0.0005)
    assert mask_share(image) == pytest.approx(0.051, abs=0.0005)


def test_reset_poses_are_the_papers() -> None:
    rng = np.random.default_rng(0)
    poses = [reset_poses(rng, ARMS["panda"]) for _ in range(200)]
    lift, look = (np.array(part) for part in zip(*poses, strict=True))
    np.testing.assert_array_equal(lift[0, 1:], [0, 0, -1.6, 0, 1.6, 0.8])
    assert lift[:, 0].min() >= -0.1 and lift[:, 0].max() <= 0.1 and lift[:, 0].std() > 0.04
    np.testing.assert_array_equal(look[0, [0, 1, 2, 4, 6]], [0, 0.13, 0.02, 0.03, 0.8])
    assert look[:, 3].min() >= -2.05 and look[:, 3].max() <= -1.9
    assert look[:, 5].min() >= 2.0 and look[:, 5].max() <= 2.15


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_placement_spreads_the_bag_in_front_of_the_flange(robot: RobotName) -> None:
    rng, task = np.random.default_rng(0), VisualReacher(robot=robot)
    placements = [task.placement(rng) for _ in range(300)]
    offsets = np.array([p.bag_xy_m - MODELS[robot].forward_kinematics(p.joint_rad)[:2, 3] for p in placements])
    assert offsets[:, 0].mean() == pytest.approx(0.15, abs=0.01)
    assert np.abs(offsets[:, 1].mean()) < 0.015
    assert np.abs(offsets - (0.15, 0.0)).max() <= 2 * 0.07 + 1e-9


def test_a_start_inside_the_box_moves_the_pose_as_little_as_it_must() -> None:
    box_m = np.array([0.3, -0.3, 0.08]), np.array([0.7, 0.3, 0.4])
    inside, paper = VisualReacher(box_m), VisualReacher()
    for seed in range(50):
        ours = inside.placement(np.random.default_rng(seed)).joint_rad
        theirs = paper.placement(np.random.default_rng(seed)).joint_rad
        before, after = PANDA.forward_kinematics(theirs), PANDA.forward_kinematics(ours)
        assert after[2, 3] <= 0.375 + 1e-4
        np.testing.assert_allclose(after[:2, 3], before[:2, 3], atol=2e-3)
        np.testing.assert_allclose(after[:3, :3], before[:3, :3], atol=5e-3)
        if before[2, 3] <= 0.375:
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
