"""The description of an arm (URDF) that a Franka controller gives its clients, written from the arm's numbers."""

from __future__ import annotations

from offbeat.robots.protocols.fci_limits import MotionLimits


def urdf(limits: MotionLimits) -> str:
    """Links link0 to link8, the flange, with masses and inertias; joints joint1 to joint7 with their limits."""
    arm = limits.arm
    parts = ['<robot name="fr3">', '<link name="link0"/>']
    for i, (row, link) in enumerate(zip(arm.dh, arm.links, strict=True)):
        name = i + 1
        mass, com = link.mass_kg, " ".join(map(repr, link.com_m))
        tensor = zip(("ixx", "iyy", "izz", "ixy", "ixz", "iyz"), link.inertia_kg_m2, strict=True)
        inertia = " ".join(f'{axis}="{value!r}"' for axis, value in tensor)
        parts += [
            f'<link name="link{name}"><inertial><origin xyz="{com}" rpy="0 0 0"/><mass value="{mass!r}"/>'
            f"<inertia {inertia}/></inertial></link>",
            f'<joint name="joint{name}" type="revolute"><parent link="link{i}"/><child link="link{name}"/>'
            f'<origin xyz="{_offset(row.a_m, row.d_m, row.twist_rad)}" rpy="{row.twist_rad!r} 0 0"/>'
            f'<axis xyz="0 0 1"/><limit lower="{float(arm.joint_lower_rad[i])!r}" '
            f'upper="{float(arm.joint_upper_rad[i])!r}" velocity="{float(arm.velocity_limit_rad_s[i])!r}" '
            f'effort="{float(arm.torque_limit_nm[i])!r}"/>{_braking(limits, i)}</joint>',
        ]
    last = len(arm.dh)
    parts += [
        f'<link name="link{last + 1}"/>',
        f'<joint name="joint{last + 1}" type="fixed"><parent link="link{last}"/><child link="link{last + 1}"/>'
        f'<origin xyz="0 0 {arm.flange_m!r}" rpy="0 0 0"/></joint>',
        "</robot>",
    ]
    return "\n".join(parts) + "\n"


def _offset(a_m: float, d_m: float, twist_rad: float) -> str:
    """Where a joint's frame lies in the one before: modified Denavit-Hartenberg, twists of quarter turns."""
    turn = (twist_rad > 0) - (twist_rad < 0)
    return f"{a_m!r} {-turn * d_m!r} {(0.0 if turn else d_m)!r}"


def _braking(limits: MotionLimits, joint: int) -> str:
    """How a joint's velocity limit falls towards the ends of its travel; libfranka reads it from here."""
    if limits.offset_rad_s is None or limits.braking_rad_s2 is None:
        return ""
    offset, braking = float(limits.offset_rad_s[joint]), float(limits.braking_rad_s2[joint])
    return f'<position_based_velocity_limits velocity_offset="{offset!r}" deceleration_limit="{braking!r}"/>'
