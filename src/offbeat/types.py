"""What passes between the boxes: shapes, units and nothing else.

Letters used in shapes: B batch, S images in a stack, H height, W width, N joints (7 of a Panda, 6 of a UR5e).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
ImageArray = NDArray[np.uint8]


class Observation(TypedDict):
    """What the agent sees once a cycle.

    image: (H, W, 3 * S) uint8, RGB images stacked along the last axis, oldest first, newest last.
    proprioception: (3 N,) float32: joint positions (rad), joint velocities (rad/s), last applied action ([-1, 1]).
    """

    image: ImageArray
    proprioception: FloatArray


@dataclass(frozen=True, slots=True)
class RobotState:
    """Joint positions (N,) rad and velocities (N,) rad/s, and when they were measured (s, run clock)."""

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

    A transition spans one step or several. The stacks of one step overlap, so that observation and next observation
    are two views of S + 1 images; those of several steps lie one after the other:

        one step, S = 3       | f0 | f1 | f2 | f3 |             frames[:, :S] and frames[:, -S:]
        several, here 5       | f0 | f1 | f2 | f5 | f6 | f7 |

    frames: (B, S + 1, H, W, 3) or (B, 2 S, H, W, 3) uint8, each stack oldest first; none in a batch that names them.
    rows: (B, S + 1) or (B, 2 S) int64, in a batch that names its frames: the replay's numbers of them; else none.
    proprioception, next_proprioception: (B, 3 N) float32.
    action: (B, N) float32 in [-1, 1], of the first step.
    reward: (B,) float32, the discounted sum over the steps.
    discount: (B,) float32, of the next observation's value: the discount of one step to the power of the steps.
    terminated, truncated: (B,) bool; what a time-out means for the target is the learner's choice.
    """

    frames: ImageArray
    proprioception: FloatArray
    next_proprioception: FloatArray
    action: FloatArray
    reward: FloatArray
    discount: FloatArray
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    rows: NDArray[np.int64]

    @classmethod
    def empty(
        cls, size: int, stack: int, height: int, width: int, steps: int = 1, joints: int = 7, named: bool = False
    ) -> Batch:
        """Allocate a batch of `size` transitions that span up to `steps` steps, of an arm with so many joints.

        named: it names its frames, for a learner that has them, instead of holding them.
        """
        images = stack + 1 if steps == 1 else 2 * stack
        return cls(
            frames=np.zeros((0 if named else size, images, height, width, 3), np.uint8),
            proprioception=np.zeros((size, 3 * joints), np.float32),
            next_proprioception=np.zeros((size, 3 * joints), np.float32),
            action=np.zeros((size, joints), np.float32),
            reward=np.zeros(size, np.float32),
            discount=np.zeros(size, np.float32),
            terminated=np.zeros(size, np.bool_),
            truncated=np.zeros(size, np.bool_),
            rows=np.zeros((size if named else 0, images), np.int64),
        )
