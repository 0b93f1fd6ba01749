"""How fast a joint may go near the ends of its travel, by hand and for any command."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offbeat.robots.models.franka import FR3_TRAVEL, PANDA_TRAVEL


def test_speed_falls_towards_an_end_of_the_travel() -> None:
    # Joint 2 of an FR3 ends at 1.7918 rad. 0.5 rad before it sqrt(2 x 2.585 x 0.5) - 0.3 = 1.3077 rad/s are allowed
    # upwards and the top speed downwards; nothing is allowed at the end, where the arm may still turn back.
    asked = np.full(7, 3.0)
    middle = np.array([0, 0, 0, -1.5, 0, 2.0, 0])
    near, there = middle.copy(), middle.copy()
    near[1], there[1] = 1.7918 - 0.5, 1.7918
    assert FR3_TRAVEL.clip(asked, near, 0.0)[1] == pytest.approx(1.3077, abs=1e-3)
    assert FR3_TRAVEL.clip(-asked, near, 0.0)[1] == pytest.approx(-0.95 * 2.62)
    assert FR3_TRAVEL.clip(asked, there, 0.0)[1] == 0.0
    assert FR3_TRAVEL.clip(-asked, there, 0.0)[1] < -2.0
    np.testing.assert_array_equal(FR3_TRAVEL.clip(0.05 * asked, middle, 0.12), 0.05 * asked)


@given(
    joint_rad=st.lists(st.floats(0, 1), min_size=7, max_size=7),
    command=st.lists(st.floats(-3, 3), min_size=7, max_size=7),
)
def test_held_commands_of_any_kind_stand_before_the_ends(joint_rad: list[float], command: list[float]) -> None:
    # Commands are given every hold, the latest there is; the arm obeys at once and then brakes as it can.
    travel, hold_s = PANDA_TRAVEL, 0.12
    q = travel.lower_rad + np.array(joint_rad) * (travel.upper_rad - travel.lower_rad)
    for _ in range(60):
        q = q + hold_s * travel.clip(np.array(command), q, hold_s)
    assert (q <= travel.upper_rad + 1e-9).all()
    assert (q >= travel.lower_rad - 1e-9).all()
