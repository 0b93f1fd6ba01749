"""Images of the scene: through MuJoCo's OpenGL renderer where there is one, else by casting MuJoCo's own rays.

Both give the bag the same hue and saturation under any light (no specular, white lights), so the task's mask differs
by no more than its border. Rays need nothing but pip.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from functools import lru_cache
from typing import Protocol

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from offbeat.robots.world import ARM_GROUP, TEXTURE_SIZE, THREAD_RGB, wood
from offbeat.types import FloatArray, ImageArray

_AMBIENT, _DIFFUSE = 0.52, 0.48
_THREAD_WIDTH_M = 0.005
# Rays that come so close to the table's edge are cast.
_BORDER_M = 1e-6
# Things must be so far in front of the lens for their outline to be projected.
_NEAR_M = 1e-3
_THREAD_COLOR = tuple(255 * c for c in THREAD_RGB)
_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


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

    Most of what a wrist camera sees is bare table. There the ray's end follows from one division, to the same bits as
    MuJoCo's, and only the rays that may end elsewhere are cast.
    """

    name = "rays"

    def __init__(self, model: mujoco.MjModel, camera: str, height: int, width: int, hide_arm: bool) -> None:
        self._model = model
        self._camera = model.camera(camera).id
        self._focal_px = float(height / 2 / np.tan(np.radians(model.cam_fovy[self._camera]) / 2))
        self._height, self._width = height, width
        x = (np.arange(width) + 0.5 - width / 2) / self._focal_px
        y = (height / 2 - np.arange(height) - 0.5) / self._focal_px
        rays = np.stack([*np.meshgrid(x, y), np.full((height, width), -1.0)], axis=-1).reshape(-1, 3)
        self._view = np.ascontiguousarray((rays / np.linalg.norm(rays, axis=1, keepdims=True)).T)
        groups = np.ones(6, np.uint8)
        groups[[4, 5]] = 0
        groups[ARM_GROUP] = not hide_arm
        self._groups = groups
        self._table = model.geom("table").id
        # What may stand in front of the table; a plane, the floor, lies below it.
        seen = groups[model.geom_group].astype(bool) & (model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE)
        seen[self._table] = False
        self._things = np.flatnonzero(seen)
        box = model.geom_aabb[self._things].reshape(-1, 2, 3)
        self._corners = box[:, :1] + _CORNERS * box[:, 1:]
        self._sites = [model.site("hook").id, model.site("knot").id]
        count = height * width
        self._numbers = np.arange(count).reshape(height, width)
        self._outermost = self._numbers[:: height - 1, :: width - 1].ravel()
        self._geom, self._distance, self._normal = np.zeros(count, np.int32), np.zeros(count), np.zeros(3 * count)
        self._rays, self._places = np.zeros((3, count)), np.zeros((2, count))
        # Colours by number: first every texel of the table, then nothing, then one a geom.
        colors = np.where(model.geom_matid[:, None] >= 0, model.mat_rgba[model.geom_matid], model.geom_rgba)
        background = np.array([[200, 205, 212]])
        self._palette = np.concatenate([wood().reshape(-1, 3), background, 255 * colors[:, :3]]).astype(np.float32)
        # The table's alone, four bytes a texel so that one is fetched at once.
        texels = np.zeros((TEXTURE_SIZE**2, 4), np.uint8)
        texels[:, :3] = wood().reshape(-1, 3)
        self._texels = texels.view(np.uint32)[:, 0]

    def render(self, data: mujoco.MjData) -> ImageArray:
        """The view, (H, W, 3) uint8 RGB."""
        position, axes = data.cam_xpos[self._camera], data.cam_xmat[self._camera].reshape(3, 3)
        np.matmul(axes, self._view, out=self._rays)
        image: ImageArray = np.empty((self._height, self._width, 3), np.uint8)
        pixels = image.reshape(-1, 3)
        rest = self._draw_table(pixels, data, position, axes)
        if len(rest):
            pixels[rest] = self._cast(data, position, np.ascontiguousarray(self._rays[:, rest].T))
        self._draw_thread(image, data, position, axes)
        return image

    def _draw_table(
        self, pixels: ImageArray, data: mujoco.MjData, position: FloatArray, axes: FloatArray
    ) -> NDArray[np.intp]:
        """Draw the table into all pixels (H W, 3); returns the numbers of those that may see something else."""
        centre, half = data.geom_xpos[self._table], self._model.geom_size[self._table]
        height = position[2] - centre[2] - half[2]
        hidden = self._hidden(data, position, axes)
        if height <= 0 or hidden is None:
            return self._numbers.ravel()
        places = self._places
        with np.errstate(all="ignore"):  # rays along the table end nowhere, and are found not to see it
            distance = np.divide(half[2] - (position[2] - centre[2]), self._rays[2], out=self._distance)
            np.multiply(distance, self._rays[:2], out=places)
            places += position[:2, None]
            texel = _texel(places)
        colors = np.take(self._texels, texel[1] * TEXTURE_SIZE + texel[0]).view(np.uint8).reshape(-1, 4)
        shade = _shade(self._rays[2])
        for channel in range(3):
            np.multiply(colors[:, channel], shade, out=pixels[:, channel], casting="unsafe")
        within, corners = half[:2, None] - _BORDER_M, self._outermost
        # What the image's corners span on the table holds all that is seen between them.
        if distance[corners].min() > 0 and (np.abs(places[:, corners] - centre[:2, None]) < within).all():
            return self._numbers[hidden].ravel()
        bare = (np.abs(places - centre[:2, None]) < within).all(0) & (distance > 0)
        bare.reshape(self._height, self._width)[hidden] = False
        return np.flatnonzero(~bare)

    def _hidden(self, data: mujoco.MjData, position: FloatArray, axes: FloatArray) -> tuple[slice, slice] | None:
        """Rows and columns outside of which nothing stands in front of the table; None when that cannot be said."""
        turned = self._corners @ data.geom_xmat[self._things].reshape(-1, 3, 3).transpose(0, 2, 1)
        turned += (data.geom_xpos[self._things] - position)[:, None]
        x, y, z = (turned.reshape(-1, 3) @ axes).T
        if z.max() > -_NEAR_M:
            return None
        scale = self._focal_px / z
        return _span(self._height / 2 + scale * y, self._height), _span(self._width / 2 - scale * x, self._width)

    def _cast(self, data: mujoco.MjData, position: FloatArray, rays: FloatArray) -> FloatArray:
        """Colours (n, 3) of rays (n, 3) in the world's frame."""
        count = len(rays)
        geom, distance, normal = self._geom[:count], self._distance[:count], self._normal[: 3 * count]
        mujoco.mj_multiRay(
            self._model, data, position, rays.ravel(), self._groups, True, -1, geom, distance, normal, count, 10.0
        )
        texel = _texel(position[:2] + distance[:, None] * rays[:, :2])
        on_table = texel[:, 1] * TEXTURE_SIZE + texel[:, 0]
        number = np.where(geom == self._table, on_table, geom + (TEXTURE_SIZE**2 + 1))
        shade = _shade(np.einsum("ij,ij->i", normal.reshape(-1, 3), rays))
        shade[geom < 0] = 1.0
        return np.take(self._palette, number, axis=0) * shade[:, None]

    def close(self) -> None:
        """Nothing to let go of."""

    def _draw_thread(self, image: ImageArray, data: mujoco.MjData, position: FloatArray, axes: FloatArray) -> None:
        """The straight line from hook to knot, clipped in front of the lens. It is nearest to the lens of all."""
        ends: list[list[float]] = ((data.site_xpos[self._sites] - position) @ axes).tolist()
        near = -0.01
        if ends[0][2] > near and ends[1][2] > near:
            return
        for i in (0, 1):
            end, other = ends[i], ends[1 - i]
            if end[2] > near:
                share = (near - end[2]) / (other[2] - end[2])
                ends[i] = [a + share * (b - a) for a, b in zip(end, other, strict=True)]
        pixels = [
            (self._width / 2 - self._focal_px * x / z - 0.5, self._height / 2 + self._focal_px * y / z - 0.5)
            for x, y, z in ends
        ]
        if max(abs(place) for pixel in pixels for place in pixel) > 1e5:
            return
        width = max(1, round(_THREAD_WIDTH_M * self._focal_px / -((ends[0][2] + ends[1][2]) / 2)))
        hook, knot = ([round(16 * place) for place in pixel] for pixel in pixels)
        cv2.line(image, hook, knot, _THREAD_COLOR, width, cv2.LINE_8, 4)


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


def _texel(metres: FloatArray) -> NDArray[np.int32]:
    """Row or column of the table's texture."""
    return np.floor(metres * TEXTURE_SIZE).astype(np.int32) & (TEXTURE_SIZE - 1)


def _shade(facing: FloatArray) -> NDArray[np.float32]:
    """Brightness from the cosine between ray and surface normal."""
    shade: NDArray[np.float32] = np.abs(facing).astype(np.float32)
    shade *= np.float32(_DIFFUSE)
    shade += np.float32(_AMBIENT)
    return shade


def _span(places: FloatArray, size: int) -> slice:
    """The pixels of an axis that lie within a pixel of these places."""
    return slice(max(0, math.floor(places.min()) - 1), max(0, min(size, math.ceil(places.max()) + 1)))


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
