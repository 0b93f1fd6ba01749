"""What a Universal Robots controller does with its arm 500 times a second: its program, its motion, its safety.

The program is the script that ur-rtde uploads, as far as joint velocities need it. It talks with the client through
registers, which data packages write and read:

    client   input_int_register_0 = command, input_double_register_0 ... = its numbers   -->
                                             <--  output_int_register_0 = READY, or FINISHED with a command  program

`speedj` goes on until another command comes; all others are finished once and wait for the client to clear the command.
A watchdog that the client has asked for ends the program with a protective stop when no data package came in time, and
a protective stop can be unlocked after 5 s and not before, as on a real arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import mujoco
import numpy as np

from offbeat.robots.models import MODELS
from offbeat.robots.protocols.plant import Plant

STEP_S = 0.002
"""The controller's period (s)."""
UNLOCK_S = 5.0
"""How long after it a protective stop can be unlocked (s)."""
SOFTWARE = (5, 11, 0, 108249)
"""The version of PolyScope that it claims to be."""

COMMAND = "input_int_register_0"
"""The register that a client's data packages write its command into."""
READY, FINISHED = 1, 2

_START_S = 0.05  # from the upload of a program to its first step
_BRAKING_RAD_S2 = 15.0  # of a stop that no program asked for
_STOPJ_RAD_S2 = 10.0
_JOINT_RUNNING = 253
_PLAYING, _STOPPED = 2, 1
_POWER_ON, _PROGRAM_RUNNING = 1, 2  # bits of the robot's status


class Safety(IntEnum):
    """The safety modes that it can be in."""

    NORMAL = 1
    PROTECTIVE_STOP = 3
    ROBOT_EMERGENCY_STOP = 7


# Bits of the safety status: normal; protective stop; robot's, any emergency stop; stopped due to safety.
_SAFETY_BITS = {Safety.NORMAL: 1, Safety.PROTECTIVE_STOP: 1 << 2 | 1 << 10}
_SAFETY_BITS[Safety.ROBOT_EMERGENCY_STOP] = 1 << 6 | 1 << 7 | 1 << 10


class _Command(IntEnum):
    """Commands of the program that mean something here; it takes any other and does nothing."""

    NONE = 0
    SPEEDJ = 9
    SPEED_STOP = 15
    PROTECTIVE_STOP = 31
    STOPJ = 34
    SET_WATCHDOG = 35
    STOP_SCRIPT = 255


class Controller:
    """The controller of a simulated arm; time passes in `step` only."""

    counters: dict[str, int]
    """commands: velocities received. uploads: of programs. watchdog: how often it struck. protective_stops.
    late: periods that were skipped."""

    def __init__(self, plant: Plant, unlock_s: float = UNLOCK_S) -> None:
        """unlock_s: how long after it a protective stop can be unlocked (s)."""
        self._plant, self._unlock_s = plant, unlock_s
        self._arm = MODELS["ur5e"]
        self.counters = dict.fromkeys(("commands", "uploads", "watchdog", "protective_stops", "late"), 0)
        self.safety, self.powered = Safety.NORMAL, True
        self.running = False
        self.time_s = 0.0
        self._steps = 0
        self._inputs: dict[str, Any] = {}
        self._answer = 0
        self._begins_s = np.inf  # a program that was uploaded
        self._taken = False  # the command that has not been cleared yet
        self._halting = False  # a stop that the program waits for
        self._heard_s = 0.0
        self._watchdog_s = np.inf
        self._stopped_s = -np.inf
        self._velocity, self._goal = np.zeros(6), np.zeros(6)
        self._acceleration = _BRAKING_RAD_S2

    def write(self, values: Mapping[str, Sequence[Any]]) -> None:
        """Take a data package: values of input fields."""
        for name, value in values.items():
            self._inputs[name] = value[0]
        if COMMAND in values:
            self._heard_s = self.time_s
            self.counters["commands"] += self._inputs[COMMAND] == _Command.SPEEDJ

    def play(self) -> None:
        """Start the program that was uploaded, if the arm can be moved."""
        self.counters["uploads"] += 1
        self.end_program()
        if self.safety == Safety.NORMAL and self.powered:
            self._begins_s = self.time_s + _START_S

    def end_program(self) -> None:
        """End the program; the arm brakes."""
        self.running, self._begins_s = False, np.inf
        self._goal, self._acceleration = np.zeros(6), _BRAKING_RAD_S2
        self._watchdog_s = np.inf  # it was the program's

    def protective_stop(self) -> None:
        """Stop by itself, as after a collision."""
        if self.safety == Safety.NORMAL:
            self.safety, self._stopped_s = Safety.PROTECTIVE_STOP, self.time_s
            self.counters["protective_stops"] += 1
            self.end_program()

    def emergency_stop(self) -> None:
        """Stop because the button was pressed, and switch the arm off."""
        self.safety, self.powered = Safety.ROBOT_EMERGENCY_STOP, False
        self.end_program()

    def release(self) -> None:
        """Release the button, and switch the arm on again."""
        if self.safety == Safety.ROBOT_EMERGENCY_STOP:
            self.safety, self.powered = Safety.NORMAL, True

    def unlock(self) -> bool:
        """Leave a protective stop; False when it is too early for it."""
        if self.safety == Safety.PROTECTIVE_STOP and self.time_s - self._stopped_s >= self._unlock_s:
            self.safety = Safety.NORMAL
        return self.safety != Safety.PROTECTIVE_STOP

    def skip(self, periods: int) -> None:
        """Let periods pass in which nothing happens, and nobody is missed."""
        self._steps += periods
        self._heard_s += periods * STEP_S
        self.counters["late"] += periods

    def step(self) -> None:
        """One period."""
        self._steps += 1
        self.time_s = self._steps * STEP_S
        if self.time_s >= self._begins_s:
            self.running, self._begins_s = True, np.inf
            self._answer, self._taken, self._halting = READY, False, False
        if self.running and self.time_s - self._heard_s > self._watchdog_s:
            self.counters["watchdog"] += 1
            self.protective_stop()
        if self.running:
            self._run()
        self._move()

    def outputs(self) -> dict[str, Sequence[Any]]:
        """Values of output fields; what an arm in a simulation has none of is left out."""
        q, dq, _ = self._plant.state()
        pose = self._pose()
        status = _POWER_ON * self.powered + _PROGRAM_RUNNING * self.running
        return {
            "timestamp": (self.time_s,),
            "actual_q": q.tolist(),
            "target_q": q.tolist(),
            "actual_qd": dq.tolist(),
            "target_qd": self._velocity.tolist(),
            "actual_TCP_pose": pose,
            "target_TCP_pose": pose,
            "robot_mode": (7 if self.powered else 3,),
            "joint_mode": (_JOINT_RUNNING,) * 6,
            "safety_mode": (int(self.safety),),
            "safety_status_bits": (_SAFETY_BITS[self.safety],),
            "robot_status_bits": (status,),
            "runtime_state": (_PLAYING if self.running else _STOPPED,),
            "speed_scaling": (1.0,),
            "target_speed_fraction": (1.0,),
            "output_int_register_0": (self._answer,),
        }

    def _run(self) -> None:
        """One turn of the program's loop."""
        command = self._inputs.get(COMMAND, _Command.NONE)
        if self._halting:
            if not self._velocity.any():
                self._halting, self._answer = False, FINISHED
        elif command == _Command.SPEEDJ:
            self._goal = np.array([self._number(i) for i in range(6)])
            self._acceleration = self._number(6)
            self._answer = READY
        elif command == _Command.NONE:
            self._taken, self._answer = False, READY
        elif not self._taken:
            self._taken, self._answer = True, FINISHED
            self._obey(command)

    def _obey(self, command: int) -> None:
        if command in (_Command.SPEED_STOP, _Command.STOPJ):
            self._goal = np.zeros(6)
            self._acceleration = _STOPJ_RAD_S2 if command == _Command.SPEED_STOP else self._number(0)
            self._halting, self._answer = True, 0
        elif command == _Command.SET_WATCHDOG:
            self._watchdog_s = 1.0 / self._number(0) if self._number(0) > 0 else 0.0
        elif command == _Command.PROTECTIVE_STOP:
            self.protective_stop()
        elif command == _Command.STOP_SCRIPT:
            self.end_program()

    def _number(self, index: int) -> float:
        return float(self._inputs.get(f"input_double_register_{index}", 0.0))

    def _move(self) -> None:
        """Ramp towards the goal, all joints in the time that the one with the longest way needs, and move."""
        change = self._goal - self._velocity
        most, reach = float(np.abs(change).max()), self._acceleration * STEP_S
        self._velocity = self._goal.copy() if most <= reach else self._velocity + change * (reach / most)
        for _ in range(round(STEP_S / 0.001)):
            self._plant.step(self._velocity)
        q = self._plant.state()[0]
        if (q < self._arm.joint_lower_rad).any() or (q > self._arm.joint_upper_rad).any():
            self.protective_stop()

    def _pose(self) -> list[float]:
        """Position (m) and rotation vector (rad) of the flange, (6,)."""
        position, rotation = self._plant.flange()
        quaternion, vector = np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
        mujoco.mju_quat2Vel(vector, quaternion, 1.0)
        return [*position.tolist(), *vector.tolist()]
