"""The Franka Emika Panda in numbers; no hand.

Sources: Franka Control Interface documentation, "Robot and interface specifications" (kinematics, limits); C. Gaz,
M. Cognetti, A. Oliva, P. Robuffo Giordano, A. De Luca, "Dynamic Identification of the Franka Emika Panda Robot With
Retrieval of Feasible Parameters Using Penalty-Based Optimization", IEEE RA-L 4(4), 2019 (inertias).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin

from offbeat.robots.models.arm import ArmModel, DHRow, Link, Shape, constant

_FLANGE_M = 0.107
_LIGHT, _GREY = (0.93, 0.93, 0.95), (0.85, 0.86, 0.88)


def flange_position(joint_rad: Sequence[float]) -> tuple[float, float, float]:
    """Position x, y, z of the flange in the base frame (m).

    joint_rad: seven joint positions (rad); a list is faster than an array. The flange's point is carried from frame to
    frame towards the base, which costs a tenth of pose and Jacobian. Joint 7 does not move it.
    """
    # Twists are quarter turns: Rx(+pi/2) maps (x, y, z) to (x, -z, y), and Rx(-pi/2) to (x, z, -y).
    q1, q2, q3, q4, q5, q6, _ = joint_rad
    c, s = cos(q6), sin(q6)
    x, y, z = 0.088 * c + _FLANGE_M * s, 0.0, 0.088 * s - _FLANGE_M * c
    c, s = cos(q5), sin(q5)
    x, y, z = c * x - s * y - 0.0825, z + 0.384, -(s * x + c * y)
    c, s = cos(q4), sin(q4)
    x, y, z = c * x - s * y + 0.0825, -z, s * x + c * y
    c, s = cos(q3), sin(q3)
    x, y, z = c * x - s * y, -(z + 0.316), s * x + c * y
    c, s = cos(q2), sin(q2)
    x, y, z = c * x - s * y, z, -(s * x + c * y)
    c, s = cos(q1), sin(q1)
    return c * x - s * y, s * x + c * y, z + 0.333


PANDA = ArmModel(
    dh=(
        DHRow(0.0, 0.333, 0.0),
        DHRow(0.0, 0.0, -pi / 2),
        DHRow(0.0, 0.316, pi / 2),
        DHRow(0.0825, 0.0, pi / 2),
        DHRow(-0.0825, 0.384, -pi / 2),
        DHRow(0.0, 0.0, pi / 2),
        DHRow(0.088, 0.0, pi / 2),
    ),
    flange_m=_FLANGE_M,
    links=(
        Link(
            mass_kg=4.970684,
            com_m=(3.875e-3, 2.081e-3, -4.762e-2),
            inertia_kg_m2=(7.0337e-1, 7.0661e-1, 9.117e-3, -1.39e-4, 6.772e-3, 1.9169e-2),
        ),
        Link(
            mass_kg=0.646926,
            com_m=(-3.141e-3, -2.872e-2, 3.495e-3),
            inertia_kg_m2=(7.962e-3, 2.811e-2, 2.5995e-2, -3.925e-3, 1.0254e-2, 7.04e-4),
        ),
        Link(
            mass_kg=3.228604,
            com_m=(2.7518e-2, 3.9252e-2, -6.6502e-2),
            inertia_kg_m2=(3.7242e-2, 3.6155e-2, 1.083e-2, -4.761e-3, -1.1396e-2, -1.2805e-2),
        ),
        Link(
            mass_kg=3.587895,
            com_m=(-5.317e-2, 1.04419e-1, 2.7454e-2),
            inertia_kg_m2=(2.5853e-2, 1.9552e-2, 2.8323e-2, 7.796e-3, -1.332e-3, 8.641e-3),
        ),
        Link(
            mass_kg=1.225946,
            com_m=(-1.1953e-2, 4.1065e-2, -3.8437e-2),
            inertia_kg_m2=(3.5549e-2, 2.9474e-2, 8.627e-3, -2.117e-3, -4.037e-3, 2.29e-4),
        ),
        Link(
            mass_kg=1.666555,
            com_m=(6.0149e-2, -1.4117e-2, -1.0517e-2),
            inertia_kg_m2=(1.964e-3, 4.354e-3, 5.433e-3, 1.09e-4, -1.158e-3, 3.41e-4),
        ),
        Link(
            mass_kg=0.735522,
            com_m=(1.0517e-2, -4.252e-3, 6.1597e-2),
            inertia_kg_m2=(1.2516e-2, 1.0027e-2, 4.815e-3, -4.28e-4, -1.196e-3, -7.41e-4),
        ),
    ),
    base=(Shape((0, 0, 0, 0, 0, 0.14), 0.075, _LIGHT, "cylinder"),),
    shapes=(
        (Shape((0, 0, -0.19, 0, 0, 0), 0.062, _LIGHT),),
        (Shape((0, 0, -0.06, 0, 0, 0.06), 0.062, _GREY), Shape((0, 0, 0, 0, -0.19, 0), 0.058, _LIGHT)),
        (Shape((0, 0, -0.12, 0, 0, 0), 0.058, _LIGHT), Shape((0, 0, 0, 0.0825, 0, 0), 0.056, _GREY)),
        (Shape((0, 0, -0.05, 0, 0, 0.05), 0.056, _GREY), Shape((0, 0, 0, -0.0825, 0.08, 0), 0.054, _LIGHT)),
        (Shape((0, 0, -0.26, 0, 0, -0.02), 0.052, _LIGHT), Shape((0, 0.06, -0.22, 0, 0.07, 0), 0.040, _GREY)),
        (Shape((0, 0, -0.05, 0, 0, 0.05), 0.048, _GREY), Shape((0, 0, 0, 0.088, 0, 0), 0.046, _LIGHT)),
        (Shape((0, 0, 0.02, 0, 0, 0.075), 0.040, _LIGHT),),
    ),
    camera_up=(1.0, -1.0),
    joint_lower_rad=constant(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    joint_upper_rad=constant(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    velocity_limit_rad_s=constant(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    acceleration_limit_rad_s2=constant(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    torque_limit_nm=constant(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
    # The chain beyond each joint, stretched.
    lever_m=constant(0.858, 0.858, 0.614, 0.532, 0.139, 0.139, 0.0),
    flange_position=flange_position,
)
"""The arm of the paper; inertias as Gaz et al. identified them."""
