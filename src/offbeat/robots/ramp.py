"""Velocities that a controller at 1 kHz takes without complaint: within acceleration and jerk, and exact in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEP_S = 0.001


class Ramp:
    """Joint velocities that follow a target from one millisecond to the next.

    Let j be what the jerk limit lets the velocity's change grow by in a step, and E = |target - velocity| / j. A change
    of (n + f) j, 0 <= f < 1, that then shrinks by j a step, covers

        (n + f) + (n - 1 + f) + ... + f = n (n + 1) / 2 + f (n + 1)

    in all, so the fastest change that need not overshoot is the one for which this is E. It arrives exactly.
    """

    velocity_rad_s: list[float]
    """Where it is."""

    def __init__(self, acceleration_rad_s2: Sequence[float], jerk_rad_s3: Sequence[float]) -> None:
        """Limits, one a joint; at rest."""
        self.velocity_rad_s = [0.0] * len(acceleration_rad_s2)
        self._limits = [(a * STEP_S, j * STEP_S**2) for a, j in zip(acceleration_rad_s2, jerk_rad_s3, strict=True)]
        self._change = [0.0] * len(self._limits)  # of the last step, rad/s

    def rest(self) -> None:
        """Stand, at once: a motion that ended took the arm's velocity with it."""
        self.velocity_rad_s = [0.0] * len(self._limits)
        self._change = [0.0] * len(self._limits)

    def step(self, target_rad_s: Sequence[float]) -> list[float]:
        """The velocities (rad/s) a millisecond later. Plain floats: it is called a thousand times a second."""
        velocities, changes = [], []
        for target, velocity, change, (most, jerk) in zip(
            target_rad_s, self.velocity_rad_s, self._change, self._limits, strict=True
        ):
            gap = target - velocity
            if gap or change:
                size = abs(gap) / jerk
                n = int((math.sqrt(1.0 + 8.0 * size) - 1.0) / 2.0)
                wanted = math.copysign(min(jerk * (n + (size - n * (n + 1) / 2) / (n + 1)), most), gap)
                change = min(max(wanted, change - jerk), change + jerk)
                velocity += change
            velocities.append(velocity)
            changes.append(change)
        self.velocity_rad_s, self._change = velocities, changes
        return velocities
