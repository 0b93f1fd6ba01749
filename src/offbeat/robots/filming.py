"""Images of a simulated world as it goes on: drawn in a thread of their own, arriving when a camera's would."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import mujoco

from offbeat.config import EnvConfig
from offbeat.robots.base import SCENE_SIZE
from offbeat.robots.render import Renderer, make_renderer
from offbeat.robots.sim import SimWorld
from offbeat.shared_memory import SeqLock
from offbeat.types import FloatArray, ImageArray


class Painter:
    """Draws what a world's cameras see at given positions (nq,), in one thread, which OpenGL wants as well."""

    def __init__(self, model: mujoco.MjModel, config: EnvConfig, begin: Callable[[], object] = lambda: None) -> None:
        """begin: what the thread does first. Raises: what the renderer raises when it does not work here."""
        self._model, self._kind = model, config.renderer
        self._data = mujoco.MjData(model)
        self._thread = ThreadPoolExecutor(1, "painter", initializer=begin)
        self._scene: Renderer | None = None
        self._wrist = self._thread.submit(self._renderer, "wrist", config.height, config.width, True).result()

    def wrist(self, positions: FloatArray) -> Future[ImageArray]:
        """The wrist camera's view, (H, W, 3) uint8 RGB."""
        return self._thread.submit(self._draw, self._wrist, positions)

    def scene(self, positions: FloatArray) -> Future[ImageArray]:
        """The second camera's view, (360, 480, 3) uint8 RGB."""
        return self._thread.submit(self._draw_scene, positions)

    def close(self) -> None:
        """Let go of the renderers and end the thread."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _renderer(self, camera: str, height: int, width: int, hide_arm: bool) -> Renderer:
        return make_renderer(self._kind, self._model, camera, height, width, hide_arm)

    def _draw_scene(self, positions: FloatArray) -> ImageArray:
        if self._scene is None:
            self._scene = self._renderer("scene", *SCENE_SIZE, False)
        return self._draw(self._scene, positions)

    def _draw(self, renderer: Renderer, positions: FloatArray) -> ImageArray:
        self._data.qpos[:] = positions
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mj_tendon(self._model, self._data)
        return renderer.render(self._data)

    def _close(self) -> None:
        for renderer in filter(None, (self._wrist, self._scene)):
            renderer.close()


class WristCamera:
    """Draws at its ticks, and publishes an image when its latency has passed since.

    A tick that comes while another is being drawn is skipped, so a slow renderer makes a camera of a lower rate.
    """

    blank: bool
    """True from a `restart` until the first image after it has been published."""

    def __init__(self, world: SimWorld, painter: Painter, latency_s: float, cell: SeqLock) -> None:
        """cell: for captured_s and image."""
        self.blank = False
        self._world, self._painter, self._latency_s, self._cell = world, painter, latency_s, cell
        self._captured_s = -math.inf
        self._drawing: Future[ImageArray] | None = None
        self._drawn: deque[tuple[float, ImageArray]] = deque()  # not yet arrived

    def step(self, now_s: float) -> None:
        """Publish what has arrived by `now_s` (s); have the newest tick drawn, when nothing else is."""
        if self._drawing is not None and self._drawing.done():
            self._drawn.append((self._captured_s, self._drawing.result()))
            self._drawing = None
        while self._drawn and self._drawn[0][0] + self._latency_s <= now_s:
            captured_s, image = self._drawn.popleft()
            self._cell.write(captured_s=captured_s, image=image)
            self.blank = False
        if self._drawing is None:
            self._draw(self._world.newest_tick(now_s))

    def restart(self, now_s: float) -> None:
        """Things were put elsewhere: forget the images of before, and draw the one that would have arrived by now."""
        self._captured_s, self._drawing = -math.inf, None
        self._drawn.clear()
        self._draw(self._world.newest_tick(now_s - self._latency_s))
        self.blank = self._drawing is not None

    def _draw(self, tick: tuple[float, FloatArray] | None) -> None:
        if tick is not None and tick[0] > self._captured_s:
            self._captured_s = tick[0]
            self._drawing = self._painter.wrist(tick[1])
