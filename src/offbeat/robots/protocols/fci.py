"""The Franka Control Interface on the wire, versions 5 (a Panda, libfranka up to 0.9) and 10 (an FR3, libfranka 0.15+).

    TCP 1337   client: | command u32 | id u32 | size u32 | payload |     size counts the header's 12 bytes too
               robot:  | the same    | same   | size     | status u8 | more |
    UDP        robot, every ms:  state: id u64, then numbers, flags and modes, packed; doubles (5), floats (10)
               client:           command: id of the state it answers, then setpoints in doubles, packed

Little-endian throughout. Matrices are 4 x 4, column by column. Source: libfranka-common, service_types.h and
rbk_types.h (Apache-2.0) of both versions.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from types import MappingProxyType

import numpy as np

PORT = 1337
HEADER = struct.Struct("<III")
CONNECT = struct.Struct("<HH")
"""Payload of a request to connect: the client's version, and the UDP port it listens at."""
MOVE = struct.Struct("<II")
"""How a request to move begins: the mode of the controller and that of the motion generator."""

ERRORS = 41
JOINTS = 7


class Command(Enum):
    """What a client asks for over TCP. SET: one of the settings that are taken note of by their status alone."""

    CONNECT = auto()
    MOVE = auto()
    STOP_MOVE = auto()
    GET_CARTESIAN_LIMIT = auto()
    SET = auto()
    SET_EE_TO_K = auto()
    SET_NE_TO_EE = auto()
    SET_LOAD = auto()
    RECOVER = auto()
    LOAD_MODEL_LIBRARY = auto()
    GET_ROBOT_MODEL = auto()


class Status(Enum):
    """What became of it; its number depends on the command and on the version."""

    SUCCESS = auto()
    MOTION_STARTED = auto()
    PREEMPTED = auto()
    NOT_POSSIBLE = auto()
    INVALID_ARGUMENT = auto()
    REFLEX = auto()
    EMERGENCY = auto()


class RobotMode(IntEnum):
    """What the arm is doing, as its states say."""

    OTHER, IDLE, MOVE, GUIDING, REFLEX, USER_STOPPED, RECOVERY = range(7)


class Generator(IntEnum):
    """The motion generator, as states say; a request to move counts from one less."""

    IDLE, JOINT_POSITION, JOINT_VELOCITY, CARTESIAN_POSITION, CARTESIAN_VELOCITY, NONE = range(6)


class Controller(IntEnum):
    """The controller, as states and requests to move say."""

    JOINT_IMPEDANCE, CARTESIAN_IMPEDANCE, EXTERNAL, OTHER = range(4)


class Error(IntEnum):
    """Flags of a state that can be raised here, by their place among the 41."""

    JOINT_REFLEX = 6
    START_POSE_INVALID = 11
    POSITION_LIMITS = 12
    VELOCITY_LIMITS = 13
    VELOCITY_DISCONTINUITY = 14
    ACCELERATION_DISCONTINUITY = 15
    COMMUNICATION_CONSTRAINTS = 25


def _fields(count: Mapping[str, int], kind: str) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, kind, (size,)) for name, size in count.items()]


_NUMBERS = {
    **{"O_T_EE": 16, "O_T_EE_d": 16, "F_T_EE": 16, "EE_T_K": 16, "F_T_NE": 16, "NE_T_EE": 16},
    **{"m_ee": 1, "I_ee": 9, "F_x_Cee": 3, "m_load": 1, "I_load": 9, "F_x_Cload": 3, "elbow": 2, "elbow_d": 2},
    **{"tau_J": 7, "tau_J_d": 7, "dtau_J": 7, "q": 7, "q_d": 7, "dq": 7, "dq_d": 7, "ddq_d": 7},
    **{"joint_contact": 7, "cartesian_contact": 6, "joint_collision": 7, "cartesian_collision": 6},
    **{"tau_ext_hat_filtered": 7, "O_F_ext_hat_K": 6, "K_F_ext_hat_K": 6, "O_dP_EE_d": 6, "O_ddP_O": 3},
    **{"elbow_c": 2, "delbow_c": 2, "ddelbow_c": 2, "O_T_EE_c": 16, "O_dP_EE_c": 6, "O_ddP_EE_c": 6},
    **{"theta": 7, "dtheta": 7},
}
_ACCELEROMETERS = {"accelerometer_top": 18, "accelerometer_bottom": 18}
_SETPOINTS = {"q_c": 7, "dq_c": 7, "O_T_EE_c": 16, "O_dP_EE_c": 6, "elbow_c": 2}


def _state(count: Mapping[str, int], kind: str) -> np.dtype[np.void]:
    """Layout of a state whose numbers are of this kind."""
    return np.dtype(
        [
            ("message_id", "<u8"),
            *_fields(count, kind),
            ("motion_generator_mode", "u1"),
            ("controller_mode", "u1"),
            ("errors", "u1", (ERRORS,)),
            ("reflex_reason", "u1", (ERRORS,)),
            ("robot_mode", "u1"),
            ("control_command_success_rate", kind),
        ]
    )


def _command(*last: tuple[str, str]) -> np.dtype[np.void]:
    """Layout of a command that ends with these fields."""
    flags = [("valid_elbow", "u1"), ("motion_generation_finished", "u1")]
    return np.dtype([("message_id", "<u8"), *_fields(_SETPOINTS, "<f8"), *flags, ("tau_J_d", "<f8", (JOINTS,)), *last])


@dataclass(frozen=True, eq=False)
class Wire:
    """What differs from version to version.

    state, command: layouts of UDP packets. commands: by their numbers. statuses: numbers of a command's statuses.
    """

    version: int
    state: np.dtype[np.void]
    command: np.dtype[np.void]
    commands: Mapping[int, Command]
    statuses: Mapping[Command, Mapping[Status, int]]

    def answer(self, number: int, command_id: int, status: Status, more: bytes = b"") -> bytes:
        """The answer to a command, by the numbers that it came with."""
        code = bytes([self.code(self.commands[number], status)])
        return HEADER.pack(number, command_id, HEADER.size + len(code + more)) + code + more

    def code(self, command: Command, status: Status) -> int:
        """The number of a command's status."""
        return self.statuses.get(command, _SETTERS)[status]

    def number(self, command: Command) -> int:
        """The number that a command has; the first one where it has several."""
        return next(number for number, known in self.commands.items() if known is command)


_S = Status
_SETTERS = {_S.SUCCESS: 0, _S.NOT_POSSIBLE: 1, _S.INVALID_ARGUMENT: 2}
_STARTED = {_S.SUCCESS: 0, _S.MOTION_STARTED: 1, _S.PREEMPTED: 2}
_C = Command

_V5 = Wire(
    version=5,
    state=_state(_NUMBERS, "<f8"),
    command=_command(),
    commands=MappingProxyType(
        {
            **{0: _C.CONNECT, 1: _C.MOVE, 2: _C.STOP_MOVE, 3: _C.GET_CARTESIAN_LIMIT, 4: _C.SET, 5: _C.SET, 6: _C.SET},
            **{7: _C.SET, 8: _C.SET_EE_TO_K, 9: _C.SET_NE_TO_EE, 10: _C.SET_LOAD, 11: _C.SET, 12: _C.RECOVER},
            13: _C.LOAD_MODEL_LIBRARY,
        }
    ),
    statuses=MappingProxyType(
        {
            _C.MOVE: _STARTED | {_S.NOT_POSSIBLE: 3, _S.INVALID_ARGUMENT: 5, _S.REFLEX: 6, _S.EMERGENCY: 7},
            _C.STOP_MOVE: {_S.SUCCESS: 0, _S.NOT_POSSIBLE: 1, _S.EMERGENCY: 2, _S.REFLEX: 3},
            _C.RECOVER: {_S.SUCCESS: 0, _S.NOT_POSSIBLE: 1, _S.REFLEX: 3, _S.EMERGENCY: 4},
        }
    ),
)
_V10 = Wire(
    version=10,
    state=_state(_NUMBERS | _ACCELEROMETERS, "<f4"),
    command=_command(("torque_command_finished", "u1")),
    commands=MappingProxyType(
        {
            **{0: _C.CONNECT, 1: _C.MOVE, 2: _C.STOP_MOVE, 3: _C.SET, 4: _C.SET, 5: _C.SET, 6: _C.SET},
            **{7: _C.SET_EE_TO_K, 8: _C.SET_NE_TO_EE, 9: _C.SET_LOAD, 10: _C.RECOVER, 11: _C.GET_ROBOT_MODEL},
        }
    ),
    statuses=MappingProxyType(
        {
            _C.MOVE: _STARTED | {_S.NOT_POSSIBLE: 5, _S.INVALID_ARGUMENT: 7, _S.REFLEX: 8, _S.EMERGENCY: 9},
            _C.STOP_MOVE: {_S.SUCCESS: 0, _S.NOT_POSSIBLE: 1, _S.EMERGENCY: 3, _S.REFLEX: 4},
            _C.RECOVER: {_S.SUCCESS: 0, _S.NOT_POSSIBLE: 1, _S.REFLEX: 4, _S.EMERGENCY: 5},
        }
    ),
)
WIRES: Mapping[int, Wire] = MappingProxyType({5: _V5, 10: _V10})
"""Both versions, by their numbers."""
