"""Drawing by rays: bare table is drawn without casting, to the same bytes."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from offbeat.robots.render import RayRenderer
from offbeat.robots.world import SceneConfig, build_model

MODEL = build_model(SceneConfig())
LOOK = np.array([0.0, 0.13, 0.02, -1.97, 0.03, 2.07, 0.8])


def scenes(count: int, spread_rad: float) -> list[mujoco.MjData]:
    """Arms about the reset's pose, bags about the table; wide spreads look at the horizon or from below the table."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        data = mujoco.MjData(MODEL)
        data.qpos[:7] = LOOK + spread_rad * rng.normal(size=7)
        turn = rng.normal(size=4)
        data.qpos[7:] = [rng.uniform(0.4, 0.9), rng.uniform(-0.2, 0.2), rng.uniform(0.03, 0.3), *turn]
        mujoco.mj_kinematics(MODEL, data)
        mujoco.mj_camlight(MODEL, data)
        found.append(data)
    return found


@pytest.mark.parametrize(("spread_rad", "hide_arm"), [(0.1, True), (0.6, True), (0.1, False)])
def test_bare_table_is_drawn_as_rays_find_it(
    spread_rad: float, hide_arm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = RayRenderer(MODEL, "wrist", 36, 64, hide_arm)
    data = scenes(40, spread_rad)
    images = [renderer.render(scene) for scene in data]
    monkeypatch.setattr(renderer, "_hidden", lambda *_: None)  # nothing is known, so that every ray is cast
    for image, scene in zip(images, data, strict=True):
        np.testing.assert_array_equal(image, renderer.render(scene))


def test_few_rays_are_cast_at_a_bag_on_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = RayRenderer(MODEL, "wrist", 90, 160, hide_arm=True)
    cast: list[int] = []
    original = mujoco.mj_multiRay
    monkeypatch.setattr(mujoco, "mj_multiRay", lambda *args: (cast.append(args[10]), original(*args)))
    data = mujoco.MjData(MODEL)
    data.qpos[:7], data.qpos[7:] = LOOK, [0.7, 0.0, 0.025, 1.0, 0.0, 0.0, 0.0]
    mujoco.mj_kinematics(MODEL, data)
    mujoco.mj_camlight(MODEL, data)
    image = renderer.render(data)
    assert cast and cast[0] < 0.2 * 90 * 160
    # The bag fills part of what was cast, and nothing else is red.
    red = (image[..., 0] > 1.6 * image[..., 1].astype(int)).sum()
    assert 0 < red <= cast[0]
