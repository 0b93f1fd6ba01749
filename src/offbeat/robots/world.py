"""The simulated scene, written as MJCF from the arm's published numbers: primitive shapes, no meshes, no downloads.

Frames: z up, the arm's base at the origin, the table top at z = 0. The wrist camera looks along the flange's axis
and is turned about it (a Panda's by 45 degrees), so that the image's up is the world's +x in the reset pose. The red
bag hangs on a thread (a tendon with a length limit) from a hook beside the camera, as in Figure 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import mujoco
import numpy as np
from scipy.ndimage import gaussian_filter

from offbeat.arms import RobotName
from offbeat.robots.models import MODELS
from offbeat.robots.models.arm import ArmModel, Shape
from offbeat.types import FloatArray, ImageArray

TABLE_RGB = (0.62, 0.60, 0.59)
FLOOR_RGB = (0.30, 0.31, 0.33)
BAG_RGB = (0.93, 0.13, 0.25)
THREAD_RGB = (0.55, 0.78, 0.88)
DARK_RGB = (0.20, 0.21, 0.23)

# The wrist camera must not see the arm that carries it: geoms of this group are hidden from it.
ARM_GROUP = 2
TEXTURE_SIZE = 512
_TOOL_M = 0.047  # what stands before the flange and touches things


@dataclass(frozen=True)
class SceneConfig:
    """The scene's arm and sizes; the defaults reproduce the paper's records (see docs/deviations.md)."""

    robot: RobotName = "panda"
    """The arm."""
    timestep_s: float = 0.002
    """Physics step (s)."""
    bag_size_m: tuple[float, float, float] = (0.09, 0.08, 0.05)
    """Edges of the bag (m)."""
    bag_mass_kg: float = 0.12
    """Mass of the bag (kg)."""
    thread_m: float = 0.48
    """Longest distance from the hook to the bag's top (m)."""
    lens_above_flange_m: float = 0.05
    """How far the lens sits behind the flange plane (m), and with it how near the camera can come to the bag."""
    lens_forward_m: float = 0.07
    """How far the lens sits beside the flange's axis, towards the image's up (m)."""
    hook_forward_m: float = 0.12
    """How far the thread's hook sits beside the flange's axis, towards the image's up (m)."""
    fovy_deg: float = 49.0
    """Vertical field of view (degrees): 78 degrees across a 16:9 image, a common webcam."""


@lru_cache(maxsize=1)
def wood() -> ImageArray:
    """Grey wood, (TEXTURE_SIZE, TEXTURE_SIZE, 3) uint8 RGB: long grain along one axis. One metre square of table."""
    rng = np.random.default_rng(7)
    size = TEXTURE_SIZE
    grain = gaussian_filter(rng.normal(size=(size, size)), (size / 16, 1.0), mode="wrap")
    fine = gaussian_filter(rng.normal(size=(size, size)), (size / 40, 0.6), mode="wrap")
    shade = 1 + 0.11 * grain / grain.std() + 0.06 * fine / fine.std()
    boards = 1 + 0.05 * np.sin(np.arange(size) // (size // 6) * 2.4)
    rgb = np.asarray(TABLE_RGB) * (shade * boards)[..., None]
    return np.clip(255 * rgb, 0, 255).astype(np.uint8)


def _vector(values: FloatArray | tuple[float, ...] | list[float]) -> str:
    return " ".join(f"{float(value):.10g}" for value in values)


def _quaternion_x(angle_rad: float) -> str:
    return _vector((np.cos(angle_rad / 2), np.sin(angle_rad / 2), 0.0, 0.0))


def _shape(shape: Shape) -> str:
    """A part of the arm as it looks; it touches nothing and weighs nothing."""
    return (
        f'<geom type="{shape.kind}" fromto="{_vector(shape.ends_m)}" size="{shape.radius_m}" '
        f'rgba="{_vector((*shape.rgb, 1.0))}" group="{ARM_GROUP}" contype="0" conaffinity="0" mass="0"/>'
    )


def _arm(arm: ArmModel, scene: SceneConfig) -> str:
    """The chain of links; modified DH: x-rotation and x-offset before each joint, z-offset along its axis."""
    opening, closing = [], []
    for i, (row, link) in enumerate(zip(arm.dh, arm.links, strict=True)):
        twist, (a, d) = row.twist_rad, (row.a_m, row.d_m)
        position = (a, -np.sin(twist) * d, np.cos(twist) * d)
        inertia = link.inertia_kg_m2
        opening.append(
            f'<body name="link{i + 1}" pos="{_vector(position)}" quat="{_quaternion_x(twist)}" gravcomp="1">'
            f'<inertial mass="{link.mass_kg}" pos="{_vector(link.com_m)}" fullinertia="{_vector(inertia)}"/>'
            f'<joint name="joint{i + 1}" axis="0 0 1" range="{arm.joint_lower_rad[i]} {arm.joint_upper_rad[i]}" '
            'armature="0.1" damping="1"/>'
        )
        opening += [_shape(shape) for shape in arm.shapes[i]]
        closing.append("</body>")
    return "".join(opening) + _tool(arm, scene) + "".join(closing)


def _tool(arm: ArmModel, scene: SceneConfig) -> str:
    """Camera, hook and flange on the last link."""
    z = arm.flange_m - scene.lens_above_flange_m
    turn_rad = np.arctan2(arm.camera_up[1], arm.camera_up[0])
    up = np.array([np.cos(turn_rad), np.sin(turn_rad)])
    right = np.array([-up[1], up[0]])  # right x up points backwards, out of the lens's rear
    lens = up * scene.lens_forward_m
    hook = up * scene.hook_forward_m
    ends = (0.0, 0.0, arm.flange_m - _TOOL_M, 0.0, 0.0, arm.flange_m)
    return (
        f'<site name="flange" pos="0 0 {arm.flange_m}" size="0.005" group="4"/>'
        f'<geom type="cylinder" fromto="{_vector(ends)}" size="0.032" rgba="{_vector((*DARK_RGB, 1.0))}" '
        f'group="{ARM_GROUP}" contype="2" conaffinity="1" mass="0"/>'
        f'<geom type="box" pos="{_vector((*lens, z - 0.02))}" size="0.014 0.045 0.016" euler="0 0 {turn_rad:.6f}" '
        f'rgba="{_vector((*DARK_RGB, 1.0))}" group="{ARM_GROUP}" contype="2" conaffinity="1" mass="0"/>'
        f'<camera name="wrist" pos="{_vector((*lens, z))}" fovy="{scene.fovy_deg}" '
        f'xyaxes="{_vector((*right, 0.0, *up, 0.0))}"/>'
        f'<geom type="capsule" fromto="{_vector((*lens, z - 0.02, *hook, z - 0.02))}" size="0.005" '
        f'rgba="{_vector((*DARK_RGB, 1.0))}" group="{ARM_GROUP}" contype="0" conaffinity="0" mass="0"/>'
        f'<site name="hook" pos="{_vector((*hook, z - 0.02))}" size="0.006" group="4"/>'
    )


def scene_xml(scene: SceneConfig) -> str:
    """The MJCF of arm, table, bag, thread, cameras and lights."""
    bag = np.asarray(scene.bag_size_m) / 2
    # So stiff that the arm follows its ramps to within a physics step, as the real controller does at 1 kHz. The gain
    # acts implicitly; a force limit on it would act explicitly and make it slow. Torques stay far below the arm's.
    # The last three joints, the wrist, carry little.
    arm = MODELS[scene.robot]
    actuators = "".join(
        f'<velocity name="motor{i + 1}" joint="joint{i + 1}" kv="{4000 if i < arm.joints - 3 else 1000}"/>'
        for i in range(arm.joints)
    )
    return f"""
<mujoco model="visual reacher">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{scene.timestep_s}" integrator="implicitfast" cone="elliptic" iterations="20"/>
  <visual>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.45 0.45 0.45" specular="0 0 0"/>
    <global offwidth="1280" offheight="720"/>
    <map znear="0.005"/>
    <quality offsamples="0"/>
  </visual>
  <asset>
    <texture type="skybox" builtin="flat" rgb1="0.78 0.80 0.83" width="64" height="64"/>
    <texture name="wood" type="2d" file="wood.png"/>
    <material name="table" texture="wood" texuniform="true" texrepeat="1 1" specular="0" reflectance="0"/>
    <material name="bag" rgba="{_vector((*BAG_RGB, 1.0))}" specular="0" shininess="0"/>
    <material name="thread" rgba="{_vector((*THREAD_RGB, 1.0))}" specular="0"/>
  </asset>
  <worldbody>
    <light pos="0.4 -0.8 1.8" dir="0 0.4 -1" diffuse="0.25 0.25 0.25" specular="0 0 0" castshadow="false"/>
    <camera name="scene" pos="1.55 -1.05 0.85" xyaxes="0.62 0.78 0 -0.33 0.26 0.91" fovy="42"/>
    <geom name="floor" type="plane" pos="0 0 -0.75" size="3 3 0.1" rgba="{_vector((*FLOOR_RGB, 1.0))}"
      contype="0" conaffinity="0"/>
    <geom name="table" type="box" pos="0.45 0 -0.02" size="0.75 0.8 0.02" material="table" friction="0.9 0.01 0.001"
      contype="1" conaffinity="3" solref="0.008 1"/>
    {"".join(_shape(shape) for shape in arm.base)}
    {_arm(arm, scene)}
    <body name="bag" pos="0.6 0 {bag[2]}">
      <freejoint name="bag"/>
      <geom name="bag" type="box" size="{_vector(bag)}" mass="{scene.bag_mass_kg}" material="bag" contype="1"
        conaffinity="3" friction="0.9 0.02 0.002" solref="0.008 1" condim="4"/>
      <site name="knot" pos="0 0 {bag[2]}" size="0.004" group="4"/>
    </body>
  </worldbody>
  <tendon>
    <spatial name="thread" range="0 {scene.thread_m}" limited="true" width="0.0025" material="thread"
      solreflimit="0.01 1" damping="0.02">
      <site site="hook"/><site site="knot"/>
    </spatial>
  </tendon>
  <actuator>{actuators}</actuator>
</mujoco>"""


def build_model(scene: SceneConfig) -> mujoco.MjModel:
    """Compile the scene."""
    encoded, png = cv2.imencode(".png", wood()[..., ::-1])
    assert encoded
    return mujoco.MjModel.from_xml_string(scene_xml(scene), {"wood.png": png.tobytes()})
