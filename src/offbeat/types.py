"""What passes between the boxes: shapes, units and nothing else.

Letters used in shapes: B batch, S images in a stack, H height, W width, N joints (7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
ImageArray = NDArray[np.uint8]

JOINTS = 7
PROPRIOCEPTION = 3 * JOINTS


class Observation(TypedDict):
    """What the agent sees once a cycle.

    image: (H, W, 3 * S) uint8, RGB images stacked along the last axis, oldest first, newest last.
    proprioception: (21,) float32: joint positions (rad), joint velocities (rad/s), last applied action ([-1, 1]).
    """

    image: ImageArray
    proprioception: FloatArray


@dataclass(frozen=True, slots=True)
class RobotState:
    """Joint positions (7,) rad and velocities (7,) rad/s, and when they were measured (s, run clock)."""

    joint_rad: FloatArray
    joint_rad_s: FloatArray
    stamp_s: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One image (H, W, 3) uint8 RGB and when its light was captured (s, run clock)."""

    image: ImageArray
    captured_s: float


@dataclass(frozen=True, slots=True)
class Batch:
    """A minibatch in memory that is written in place, over and over.

    Consecutive stacks overlap, so observation and next observation are two views of S + 1 images:

        frames   | f0 | f1 | f2 | f3 |      S = 3
        stack     \\____________/            frames[:, :-1]
        next           \\____________/       frames[:, 1:]

    frames: (B, S + 1, H, W, 3) uint8, oldest first.
    proprioception, next_proprioception: (B, 21) float32.
    action: (B, 7) float32 in [-1, 1].
    reward: (B,) float32.
    terminated, truncated: (B,) bool; what a time-out means for the target is the learner's choice.
    """

    frames: ImageArray
    proprioception: FloatArray
    next_proprioception: FloatArray
    action: FloatArray
    reward: FloatArray
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    @classmethod
    def empty(cls, size: int, stack: int, height: int, width: int) -> Batch:
        """Allocate a batch of `size` transitions."""
        return cls(
            frames=np.zeros((size, stack + 1, height, width, 3), np.uint8),
            proprioception=np.zeros((size, PROPRIOCEPTION), np.float32),
            next_proprioception=np.zeros((size, PROPRIOCEPTION), np.float32),
            action=np.zeros((size, JOINTS), np.float32),
            reward=np.zeros(size, np.float32),
            terminated=np.zeros(size, np.bool_),
            truncated=np.zeros(size, np.bool_),
        )
