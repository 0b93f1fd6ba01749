"""Images of the scene: through MuJoCo's OpenGL renderer where there is one, else by casting MuJoCo's own rays.

Both give the bag the same hue and saturation under any light (no specular, white lights), so the task's mask differs
by no more than its border. Rays need nothing but pip.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from typing import Protocol

import cv2
import mujoco
import numpy as np

from offbeat.robots.world import ARM_GROUP, TEXTURE_SIZE, THREAD_RGB, wood
from offbeat.types import FloatArray, ImageArray

_AMBIENT, _DIFFUSE = 0.52, 0.48
_THREAD_WIDTH_M = 0.005


class Renderer(Protocol):
    """Draws one camera's view of a scene whose kinematics are up to date."""

    name: str

    def render(self, data: mujoco.MjData) -> ImageArray:
        """The view, (H, W, 3) uint8 RGB, a new array."""
        ...

    def close(self) -> None:
        """Let go of what drawing needs."""
        ...


class RayRenderer:
    """One ray a pixel, shaded by the angle to the camera; the thread is drawn as a line.

    camera: name of the camera. hide_arm: leave out the arm that carries the camera.
    """

    name = "rays"

    def __init__(self, model: mujoco.MjModel, camera: str, height: int, width: int, hide_arm: bool) -> None:
        self._model = model
        self._camera = model.camera(camera).id
        self._focal_px = height / 2 / np.tan(np.radians(model.cam_fovy[self._camera]) / 2)
        self._height, self._width = height, width
        x = (np.arange(width) + 0.5 - width / 2) / self._focal_px
        y = (height / 2 - np.arange(height) - 0.5) / self._focal_px
        rays = np.stack([*np.meshgrid(x, y), np.full((height, width), -1.0)], axis=-1).reshape(-1, 3)
        self._rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        groups = np.ones(6, np.uint8)
        groups[[4, 5]] = 0
        groups[ARM_GROUP] = not hide_arm
        self._groups = groups
        count = height * width
        self._geom = np.zeros(count, np.int32)
        self._distance = np.zeros(count)
        self._normal = np.zeros((count, 3))
        self._table = model.geom("table").id
        self._sites = model.site("hook").id, model.site("knot").id
        self._background = np.array([200, 205, 212], np.float32)
        colors = np.where(model.geom_matid[:, None] >= 0, model.mat_rgba[model.geom_matid], model.geom_rgba)
        # Colours by number: first every texel of the table, then one a geom.
        self._palette = np.concatenate([wood().reshape(-1, 3), 255 * colors[:, :3]]).astype(np.float32)

    def render(self, data: mujoco.MjData) -> ImageArray:
        """The view, (H, W, 3) uint8 RGB."""
        position, axes = data.cam_xpos[self._camera], data.cam_xmat[self._camera].reshape(3, 3)
        rays = self._rays @ axes.T
        mujoco.mj_multiRay(
            self._model, data, position, rays.ravel(), self._groups, True, -1,
            self._geom, self._distance, self._normal.reshape(-1), len(rays), 10.0,
        )  # fmt: skip
        points = position[:2] + self._distance[:, None] * rays[:, :2]
        texel = np.floor(points * TEXTURE_SIZE).astype(np.int32) % TEXTURE_SIZE
        on_table = self._geom == self._table
        color = np.take(
            self._palette,
            np.where(on_table, texel[:, 1] * TEXTURE_SIZE + texel[:, 0], self._geom + TEXTURE_SIZE**2),
            axis=0,
        )
        facing = np.abs(np.einsum("ij,ij->i", self._normal, rays)).astype(np.float32)
        color *= (_AMBIENT + _DIFFUSE * facing)[:, None]
        if self._geom.min() < 0:
            color[self._geom < 0] = self._background
        image: ImageArray = color.astype(np.uint8).reshape(self._height, self._width, 3)
        self._draw_thread(image, data, position, axes)
        return image

    def close(self) -> None:
        """Nothing to let go of."""

    def _draw_thread(self, image: ImageArray, data: mujoco.MjData, position: FloatArray, axes: FloatArray) -> None:
        """The straight line from hook to knot, clipped in front of the lens. It is nearest to the lens of all."""
        ends = (data.site_xpos[list(self._sites)] - position) @ axes
        near = -0.01
        if ends[0, 2] > near and ends[1, 2] > near:
            return
        for i in (0, 1):
            if ends[i, 2] > near:
                ends[i] += (near - ends[i, 2]) / (ends[1 - i, 2] - ends[i, 2]) * (ends[1 - i] - ends[i])
        pixel = np.stack(
            [
                self._width / 2 - self._focal_px * ends[:, 0] / ends[:, 2] - 0.5,
                self._height / 2 + self._focal_px * ends[:, 1] / ends[:, 2] - 0.5,
            ],
            axis=1,
        )
        if np.abs(pixel).max() > 1e5:
            return
        width = max(1, round(_THREAD_WIDTH_M * self._focal_px / float(-ends[:, 2].mean())))
        fixed = np.round(pixel * 16).astype(int)
        cv2.line(image, tuple(fixed[0]), tuple(fixed[1]), tuple(255 * c for c in THREAD_RGB), width, cv2.LINE_8, 4)


class GLRenderer:
    """MuJoCo's own renderer."""

    name = "gl"

    def __init__(self, model: mujoco.MjModel, camera: str, height: int, width: int, hide_arm: bool) -> None:
        self._renderer = mujoco.Renderer(model, height, width)
        self._camera = camera
        self._option = mujoco.MjvOption()
        self._option.geomgroup[ARM_GROUP] = not hide_arm
        self._option.sitegroup[:] = 0

    def render(self, data: mujoco.MjData) -> ImageArray:
        """The view, (H, W, 3) uint8 RGB."""
        self._renderer.update_scene(data, self._camera, self._option)
        return self._renderer.render().copy()

    def close(self) -> None:
        """Close the OpenGL context."""
        self._renderer.close()


@lru_cache(maxsize=1)
def opengl_works() -> bool:
    """Whether MuJoCo can open an OpenGL context here. Asked in a process of its own, since a bad driver may crash."""
    code = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()"
    try:
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, env=os.environ.copy())
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0


def make_renderer(kind: str, model: mujoco.MjModel, camera: str, height: int, width: int, hide_arm: bool) -> Renderer:
    """A renderer of the kind "gl", "rays" or "auto" (gl where it works)."""
    if kind == "auto":
        kind = "gl" if opengl_works() else "rays"
    return (GLRenderer if kind == "gl" else RayRenderer)(model, camera, height, width, hide_arm)
