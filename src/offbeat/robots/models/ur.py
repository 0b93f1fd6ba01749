"""What the controllers of Universal Robots' e-Series hold an arm to.

Source: Universal Robots, user manuals of UR3e, UR5e, UR10e and UR16e (ranges and speeds of the joints). Accelerations
are not published.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from offbeat.robots.models.arm import constant
from offbeat.robots.models.travel import Travel

UR_ACCELERATION_RAD_S2 = 8.0
"""What we ramp with: the safety filter plans with 6."""

# All joints turn by 360 degrees both ways, but after 180 the upper arm is in the elbow's way.
_ENDS_DEG = (360.0, 360.0, 180.0, 360.0, 360.0, 360.0)
_BEFORE_RAD = 0.05  # a controller stops an arm that comes to its ends


def _travel(*top_deg_s: float) -> Travel:
    ends = np.radians(_ENDS_DEG) - _BEFORE_RAD
    return Travel(
        constant(*(-ends).tolist()),
        constant(*ends.tolist()),
        constant(*np.radians(top_deg_s).tolist()),
        constant(*(0.1,) * 6),
        constant(*(UR_ACCELERATION_RAD_S2 / 2,) * 6),
    )


UR_TRAVEL: Mapping[str, Travel] = MappingProxyType(
    {
        "ur3e": _travel(180, 180, 180, 360, 360, 360),
        "ur5e": _travel(180, 180, 180, 180, 180, 180),
        "ur10e": _travel(120, 120, 180, 180, 180, 180),
        "ur16e": _travel(120, 120, 180, 180, 180, 180),
    }
)
"""How fast the joints of each arm may go where they are."""
