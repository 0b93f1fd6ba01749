"""A Franka controller on the network, with the simulated arm behind it: versions 5 and 10 of its interface.

A tick is a millisecond: take the newest command, answer what came over TCP, move the arm on, publish a state. What a
controller estimates from torques (contacts, forces, loads) is not emulated: those numbers are zero, and a reflex of
contact is injected. There is no hand, so the end effector is the flange unless a client sets another.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from offbeat.errors import ConfigError
from offbeat.robots.protocols.fci import CONNECT, MOVE, WIRES, Command, Error, RobotMode, Status
from offbeat.robots.protocols.fci_door import Door
from offbeat.robots.protocols.fci_limits import LIMITS
from offbeat.robots.protocols.fci_model import urdf
from offbeat.robots.protocols.fci_motion import Motion
from offbeat.robots.protocols.plant import STEP_S, Plant

# How fast the arm makes up for being off its setpoint (1/s).
_GAIN = 50.0
_LOSS_S, _DELAY_S = 0.06, 0.008
_MATRIX = struct.Struct("<16d")
_LOAD = struct.Struct("<13d")
_CARTESIAN_LIMIT = struct.Struct("<19d?")


class FCIServer:
    """The controller of a Panda (version 5) or an FR3 (version 10). Implements `Server`.

    Its faults: reflex (of contact, in a joint); communication_loss (60 ms nothing arrives on either side);
    delay (8 ms everything is held back); drop (the connection is closed); emergency_stop, until release.
    """

    FAULTS: tuple[str, ...] = ("reflex", "communication_loss", "delay", "drop", "emergency_stop", "release")

    def __init__(self, host: str, version: int) -> None:
        """Listen at `host`. Raises: OSError when that cannot be; ConfigError when the version is not served."""
        if version not in WIRES:
            raise ConfigError(f"Version {version} of the Franka Control Interface is not served: use 5 or 10.")
        self._wire, self._limits = WIRES[version], LIMITS[version]
        self.plant = Plant("panda")
        self.counters = {"commands": 0, "lost": 0, "reflexes": 0, "late": 0}
        self._motion = Motion(self._limits, self.plant.state()[0], self.counters)
        self._udp_client: tuple[str, int] | None = None
        self._door = Door(host, self._on_left)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 0))
        self._udp.setblocking(False)
        self._packet = np.zeros(self._wire.command.itemsize + 1, np.uint8)  # one more, to tell longer ones
        self._command = self._packet[:-1].view(self._wire.command)
        self._state = np.zeros(1, self._wire.state)
        self._tool: NDArray[np.float64] | None = None  # from flange to end effector, where that is not the flange
        for frame in ("F_T_EE", "EE_T_K", "F_T_NE", "NE_T_EE"):
            self._state[frame] = np.eye(4).ravel()
        self._message_id = 0
        self._silent_s = self._held_s = 0.0  # until when nothing arrives; until when everything is held back
        self._due_s = time.monotonic()

    def tick(self) -> None:
        """Sleep until the next millisecond, then serve the sockets, move the arm on and publish its state."""
        self._wait()
        now_s = time.monotonic()
        silent, held = now_s < self._silent_s, now_s < self._held_s
        if not held:
            self._read_commands(silent)
        for number, command_id, payload in self._door.messages():
            self._obey(number, command_id, payload)
        self._motion.advance()
        self._move()
        self._message_id += 1
        if self._udp_client is not None and not silent and not held:
            self._publish(self._udp_client)
        for command, command_id, status in self._motion.answers:
            self._door.send(self._wire.answer(self._wire.number(command), command_id, status))
        self._motion.answers.clear()

    def inject(self, fault: str) -> None:
        """Let a fault happen now; one of FAULTS."""
        if fault == "reflex":
            self._motion.reflex(Error.JOINT_REFLEX)
        elif fault == "communication_loss":
            self._silent_s = time.monotonic() + _LOSS_S
        elif fault == "delay":
            self._held_s = time.monotonic() + _DELAY_S
        elif fault == "drop":
            self._door.drop()
        elif fault == "emergency_stop":
            self._motion.user_stop()
        elif fault == "release":
            self._motion.release()

    def close(self) -> None:
        """Let go of all sockets."""
        self._door.close()
        self._udp.close()

    def _wait(self) -> None:
        """Sleep until the next period is due, on a grid that begins anew when this process was held up for a period.

        A real controller is never late. Here time stands still for arm and controller meanwhile, as the client sees it.
        """
        self._due_s += STEP_S
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        late_s = time.monotonic() - self._due_s
        if late_s >= STEP_S:
            self.counters["late"] += int(late_s / STEP_S)
            self._due_s += late_s

    def _read_commands(self, silent: bool) -> None:
        while True:
            try:
                size, sender = self._udp.recvfrom_into(self._packet.data)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier state found nobody
            ours = self._udp_client is not None and sender == self._udp_client
            if ours and not silent and size == self._command.nbytes:
                self._motion.receive(self._command, self._message_id)

    def _move(self) -> None:
        """Have the arm follow its setpoints."""
        motion = self._motion
        behind = motion.joint_rad - motion.joint_rad_s * STEP_S - self.plant.state()[0]
        self.plant.step(motion.joint_rad_s + _GAIN * behind)

    def _publish(self, client: tuple[str, int]) -> None:
        state, motion = self._state, self._motion
        joint_rad, joint_rad_s, _ = self.plant.state()
        position, rotation = self.plant.flange()
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, position
        if self._tool is not None:
            pose = pose @ self._tool
        state["message_id"] = self._message_id
        state["O_T_EE"] = state["O_T_EE_d"] = state["O_T_EE_c"] = pose.T.ravel()
        state["elbow"] = state["elbow_d"] = state["elbow_c"] = joint_rad[2], np.copysign(1.0, joint_rad[3])
        state["q"] = state["theta"] = joint_rad
        state["dq"] = state["dtheta"] = joint_rad_s
        state["q_d"], state["dq_d"], state["ddq_d"] = motion.joint_rad, motion.joint_rad_s, motion.joint_rad_s2
        state["motion_generator_mode"], state["controller_mode"] = motion.generator, motion.controller
        state["robot_mode"] = motion.mode
        state["errors"], state["reflex_reason"] = motion.errors, motion.last_errors
        state["control_command_success_rate"] = motion.success_rate
        with suppress(OSError):  # as lost on a cable
            self._udp.sendto(state.tobytes(), client)

    def _obey(self, number: int, command_id: int, payload: bytes) -> None:
        """Do what a client asks for over TCP, and answer."""
        command = self._wire.commands.get(number)
        if command is None or (command is Command.CONNECT) != (self._udp_client is None):
            self._door.drop()  # it speaks something else
            return
        try:
            answer = self._answer(command, command_id, payload)
        except struct.error:
            self._door.drop()  # a payload that is too short
            return
        if answer is not None:
            status, more = answer
            self._door.send(self._wire.answer(number, command_id, status, more))

    def _answer(self, command: Command, command_id: int, payload: bytes) -> tuple[Status, bytes] | None:
        """Status and more of an answer; None when it comes later. Raises: struct.error."""
        if command is Command.CONNECT:
            return self._connect(payload)
        if command is Command.MOVE:
            controller, generator = MOVE.unpack_from(payload)
            return self._motion.start(command_id, controller, generator + 1, self._message_id), b""
        if command is Command.STOP_MOVE:
            return self._motion.stop(), b""
        if command is Command.RECOVER:
            status = self._motion.recover(command_id)
            return None if status is None else (status, b"")
        if command is Command.LOAD_MODEL_LIBRARY:
            return Status.NOT_POSSIBLE, b""  # a library of the maker's, which is not ours to give
        if command is Command.GET_ROBOT_MODEL:
            return Status.SUCCESS, urdf(self._limits).encode()
        if command is Command.GET_CARTESIAN_LIMIT:
            return Status.SUCCESS, _CARTESIAN_LIMIT.pack(*(0.0,) * 3, *np.eye(4).ravel(), False)
        return self._set(command, payload), b""

    def _connect(self, payload: bytes) -> tuple[Status, bytes]:
        version, port = CONNECT.unpack_from(payload)
        ours = struct.pack("<H", self._wire.version)
        if version != self._wire.version or self._door.client is None:
            return Status.NOT_POSSIBLE, ours  # that is, kIncompatibleLibraryVersion
        self._udp_client = self._door.client, port
        return Status.SUCCESS, ours

    def _set(self, command: Command, payload: bytes) -> Status:
        """Take note of a setting. Thresholds, impedances and filters have nothing here that they could change."""
        if self._motion.mode is RobotMode.MOVE:
            return Status.NOT_POSSIBLE
        state = self._state
        if command is Command.SET_EE_TO_K:
            state["EE_T_K"] = _MATRIX.unpack_from(payload)
        elif command is Command.SET_NE_TO_EE:
            state["NE_T_EE"] = state["F_T_EE"] = matrix = _MATRIX.unpack_from(payload)
            self._tool = np.reshape(matrix, (4, 4)).T
        elif command is Command.SET_LOAD:
            mass, *rest = _LOAD.unpack_from(payload)
            state["m_load"], state["F_x_Cload"], state["I_load"] = mass, rest[:3], rest[3:]
        return Status.SUCCESS

    def _on_left(self) -> None:
        self._udp_client = None
        self._motion.leave()
