"""How fast the joints of a real arm may go where they are, so that none runs into the end of its travel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbeat.types import FloatArray


@dataclass(frozen=True, eq=False)
class Travel:
    """How fast a joint may go towards an end of its travel: braking at b, it is to keep `reserve` at the end.

        speed(distance) = min(top speed, sqrt(2 b distance) - reserve)

    lower_rad, upper_rad: ends of the travel. top_rad_s: speeds away from them. All are (N,).
    """

    lower_rad: NDArray[np.float64]
    upper_rad: NDArray[np.float64]
    top_rad_s: NDArray[np.float64]
    reserve_rad_s: NDArray[np.float64]
    braking_rad_s2: NDArray[np.float64]

    def clip(self, joint_rad_s: FloatArray, joint_rad: FloatArray, hold_s: float) -> NDArray[np.float64]:
        """The velocity (N,) rad/s nearest to this that is allowed at (N,) rad and, held, still is `hold_s` (s) on."""
        now = self._allowed(joint_rad_s, joint_rad)
        return self._allowed(now, joint_rad + hold_s * now)

    def _allowed(self, joint_rad_s: FloatArray, joint_rad: FloatArray) -> NDArray[np.float64]:
        up = np.sqrt(np.maximum(2.0 * self.braking_rad_s2 * (self.upper_rad - joint_rad), 0.0)) - self.reserve_rad_s
        down = np.sqrt(np.maximum(2.0 * self.braking_rad_s2 * (joint_rad - self.lower_rad), 0.0)) - self.reserve_rad_s
        most = np.minimum(np.maximum(up, 0.0), self.top_rad_s)
        least = -np.minimum(np.maximum(down, 0.0), self.top_rad_s)
        return np.minimum(np.maximum(joint_rad_s, least), most)
