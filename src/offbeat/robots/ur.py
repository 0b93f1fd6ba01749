"""Universal Robots' e-Series (UR3e, UR5e, UR10e, UR16e) through ur-rtde: joint velocities by `speedJ`.

    command_velocity  --speedJ: velocity, acceleration-->  controller: ramps to it and holds it, 500 times a second,
    read_state        --zeros again, while it stands---->  until its watchdog hears of nobody: a protective stop
                      <--newest state, 500 Hz------------

A library that has lost its connection goes on as if nothing had happened: `speedJ` says True and states stand still. So
nothing is read or sent without a look at the time stamp of the newest state.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from offbeat.errors import DriverError, RobotError, RobotFaultError
from offbeat.robots.base import RobotSetup
from offbeat.robots.models.ur import UR_ACCELERATION_RAD_S2, UR_TRAVEL
from offbeat.robots.moves import move_by_velocity
from offbeat.robots.vendor import checked, one_line, wait_until
from offbeat.types import FloatArray, RobotState

JOINTS = 6
MAX_AGE_S = 0.2
"""A state older than this (s) is none: a hundred are to come in that time."""

_logger = logging.getLogger(__name__)
_WATCHDOG = 1.5  # holds; a watchdog that strikes costs a protective stop, and `stop` is to come before it
_KICK = 0.25  # holds, from one sign of life of an arm that stands to the next
_DRIFT = 1e-4  # between the controller's clock and ours, s/s
_PRIORITY = 40  # on a real-time kernel; the library's own 90 would be above the network's
_TAKE_S = 0.02
_UPLOAD_S = 2.0
_WAIT_S = 5.0
_UNLOCK_S = 12.0  # a controller allows it after 5 s
_CLOSE_S = 3.0
_STATES = ["timestamp", "actual_q", "actual_qd", "robot_mode", "safety_mode", "runtime_state", "target_speed_fraction"]

# What the controller reports, by its numbers.
_NORMAL, _REDUCED, _PROTECTIVE_STOP = 1, 2, 3
_SAFETY = {
    4: "recovery mode",
    5: "safeguard stop",
    6: "system emergency stop",
    7: "robot emergency stop",
    8: "safety violation",
    9: "safety fault",
}
_RUNNING = 7
_PLAYING = 2


def make_ur(setup: RobotSetup) -> URArm:
    """The arm whose controller answers at `setup.host`, which must be the task's: another size has other kinematics.

    Raises: DriverError when no address was given or it is another arm; RobotError as `URArm`.
    """
    arm = make_any_ur(setup)
    if arm.model != setup.arm:
        arm.close()
        raise DriverError(
            f"The controller at {setup.host} moves a {_name(arm.model)} and the task is one for a {_name(setup.arm)}, "
            "whose reach is another: give the right --env.robot, or the address of the right arm."
        )
    return arm


def make_any_ur(setup: RobotSetup) -> URArm:
    """The arm whose controller answers at `setup.host`, of any size, for tasks of your own.

    Raises: DriverError when no address was given; RobotError as `URArm`.
    """
    if not setup.host:
        raise DriverError("The UR driver needs its controller's address: say --robot-host, 192.168.1.10 for example.")
    return URArm(setup)


class URArm:
    """An arm of the e-Series, driven by joint velocities. Implements `Robot` and `Recoverable`."""

    model: str
    """Which: one of `UR_TRAVEL`."""

    def __init__(self, setup: RobotSetup) -> None:
        """Connect, leave a protective stop, and start the program that obeys.

        Raises: RobotError when nobody answers, or the arm cannot be moved until somebody has done something about it.
        """
        import dashboard_client
        import rtde_control
        import rtde_receive

        self._dashboard, self._controls = dashboard_client.DashboardClient, rtde_control.RTDEControlInterface
        self._setup, self._clock = setup, setup.clock
        self._offset_s, self._read_s = math.inf, self._clock.now()  # from the controller's clock to ours
        self._armed = self._moving = self._lost = False
        self._sent_s = 0.0
        self._control: Any = None
        try:
            self.model = self._ask_model()
            self._travel = UR_TRAVEL[self.model]
            self._receive = rtde_receive.RTDEReceiveInterface(setup.host, variables=_STATES, rt_priority=_PRIORITY)
            self._newest()
            self._refuse_stopped()
            self._unlock()
            self._control = self._controls(setup.host, rt_priority=_PRIORITY)
            if not wait_until(self._is_playing, self._clock, _WAIT_S):
                raise RobotError(
                    f"The control program of the {_name(self.model)} does not start: see what its pendant says."
                )
        except (RuntimeError, ValueError) as error:
            raise RobotError(
                f"The UR at {setup.host} cannot be used ({one_line(error)}): check its address and its cable, and "
                "that it is switched on and in remote control."
            ) from error

    def read_state(self) -> RobotState:
        """Joint positions and velocities, and when they were measured.

        Raises: RobotFaultError when the arm has stopped by itself, or its program has ended; RobotError when no states
        come any more, or somebody has to set the arm free first.
        """
        state = self._newest()
        self._refuse_stopped()
        if self._receive.getSafetyMode() == _PROTECTIVE_STOP:
            raise RobotFaultError(f"The {_name(self.model)} has stopped by itself: protective stop.", state)
        if self._receive.getRuntimeState() != _PLAYING:
            raise RobotFaultError(f"The {_name(self.model)} has stopped: its control program was ended.", state)
        if self._armed and not self._moving and self._clock.now() - self._sent_s > _KICK * self._setup.hold_s:
            # Not kickWatchdog: it clears the command, and one that came just before, on a late network, were lost.
            self._say(self._control.speedJ, [0.0] * JOINTS, UR_ACCELERATION_RAD_S2)
        return state

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Ramp to this velocity (6,) rad/s, clipped to the arm's limits, and hold it; returns what was sent.

        Raises: RobotError when it is not six finite numbers; as `read_state`.
        """
        command = checked(joint_rad_s, JOINTS)
        sent = self._travel.clip(command, self.read_state().joint_rad, self._setup.hold_s)
        if not self._armed:
            self._say(self._control.setWatchdog, 1.0 / (_WATCHDOG * self._setup.hold_s))
            self._armed = True
        self._moving = bool(sent.any())
        self._say(self._control.speedJ, sent.tolist(), UR_ACCELERATION_RAD_S2)
        return sent

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (6,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        move_by_velocity(self, self._clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        """Ramp to a stand. An arm that cannot be told stops by its watchdog."""
        if self._moving:
            self._moving = False
            with suppress(RobotError):
                self._newest()
                self._say(self._control.speedJ, [0.0] * JOINTS, UR_ACCELERATION_RAD_S2)

    def recover(self) -> None:
        """Leave a protective stop, 5 s after it, and start the program again.

        Raises: RobotError when the controller does not let us.
        """
        self._armed = self._moving = False
        try:
            self._unlock()
            if not self._upload():
                raise RobotError("its program does not start")
        except (RuntimeError, RobotError) as error:
            raise RobotError(f"The {_name(self.model)} could not be recovered: {one_line(error)}.") from error

    def close(self) -> None:
        """End the program and let go of the arm; one that was lost is left to its watchdog. Waits 3 s at the most."""
        # Daemons, which keep what they use, so that the library's own end, which may wait or crash, is never reached.
        thread = threading.Thread(target=self._leave_alone if self._lost else self._disconnect, daemon=True)
        thread.start()
        if not self._lost:
            thread.join(_CLOSE_S)

    def _disconnect(self) -> None:
        with suppress(RuntimeError):
            self._control.stopScript()
        for interface in (self._control, self._receive):
            with suppress(RuntimeError):
                interface.disconnect()

    def _leave_alone(self) -> None:
        """Keep the interfaces for as long as the process lives.

        The control interface takes up a lost connection by itself, and has two threads read from it afterwards: to
        disconnect it then crashes the process.
        """
        threading.Event().wait()

    def _newest(self) -> RobotState:
        """The newest state. Raises: RobotError when it is too old."""
        state, age_s = self._read()
        if age_s > MAX_AGE_S:  # or this process was held up, and the library has not taken yet what came meanwhile
            time.sleep(_TAKE_S)
            state, age_s = self._read()
        interfaces = (self._receive,) if self._control is None else (self._receive, self._control)
        if age_s > MAX_AGE_S or not all(interface.isConnected() for interface in interfaces):
            self._lost = True
            raise RobotError(
                f"The connection to the {_name(self.model)} was lost: its newest state is {max(age_s, 0.0):.3f} s old "
                f"and {MAX_AGE_S:g} s is allowed. Check its cable and its power, and start again."
            )
        return state

    def _read(self) -> tuple[RobotState, float]:
        """The state that the library holds, and its age (s)."""
        asked_s, receive = self._clock.now(), self._receive
        for _ in range(3):  # the three are read one by one, while others arrive
            time_s = receive.getTimestamp()
            position, velocity = np.array(receive.getActualQ()), np.array(receive.getActualQd())
            if receive.getTimestamp() == time_s:
                break
        # What came fastest tells how the two clocks stand to each other.
        now_s = self._clock.now()
        self._offset_s = min(self._offset_s + _DRIFT * (now_s - self._read_s), now_s - time_s)
        self._read_s = now_s
        stamp_s = time_s + self._offset_s
        return RobotState(position, velocity, stamp_s), asked_s - stamp_s

    def _refuse_stopped(self) -> None:
        """Raises: RobotError when somebody has to set the arm free first."""
        safety, mode = self._receive.getSafetyMode(), self._receive.getRobotMode()
        if safety not in (_NORMAL, _REDUCED, _PROTECTIVE_STOP):
            raise RobotError(
                f"The {_name(self.model)} was stopped: {_SAFETY.get(safety, f'safety mode {safety}')}. See that "
                "nothing is in its way, release what stopped it, switch it on at the pendant and start again."
            )
        if mode != _RUNNING:
            raise RobotError(
                f"The {_name(self.model)} takes no commands (robot mode {mode}): switch it on, release its brakes and "
                "start again."
            )
        if self._receive.getTargetSpeedFraction() < 1.0:
            raise RobotError(
                f"The {_name(self.model)} would be slower than told: set the speed slider of its pendant to 100 %."
            )

    def _say(self, tell: Callable[..., bool], *arguments: Any) -> None:
        """Tell the controller something. Raises: RobotError as `read_state` when it does not take it."""
        try:
            taken = tell(*arguments)
        except (RuntimeError, ValueError) as error:
            raise RobotError(f"The {_name(self.model)} could not be told anything: {one_line(error)}.") from error
        self._sent_s = self._clock.now()
        if not taken:
            self._armed = False
            self.read_state()
            raise RobotFaultError(f"The {_name(self.model)} does not take commands any more.")

    def _unlock(self) -> None:
        """Leave a protective stop, if it is in one. Raises: RobotError when the controller refuses."""
        if self._receive.getSafetyMode() != _PROTECTIVE_STOP:
            return
        _logger.warning("The %s is in a protective stop, which is being left.", _name(self.model))
        dashboard = self._dashboard(self._setup.host)
        dashboard.connect()
        end_s = time.monotonic() + _UNLOCK_S
        while self._receive.getSafetyMode() == _PROTECTIVE_STOP:
            try:
                dashboard.closeSafetyPopup()
                dashboard.unlockProtectiveStop()
            except RuntimeError as error:  # too early
                if time.monotonic() > end_s:
                    raise RobotError(one_line(error)) from error
            time.sleep(0.1)
        dashboard.disconnect()

    def _upload(self) -> bool:
        """Start the program again; False when it does not."""
        with suppress(RuntimeError):
            self._control.reuploadScript()
        if not wait_until(self._is_playing, self._clock, _UPLOAD_S):
            # A controller may have given up the connection that programs come by: the library never reads from it.
            self._control.disconnect()
            self._control = self._controls(self._setup.host, rt_priority=_PRIORITY)
        return wait_until(self._is_playing, self._clock, _WAIT_S)

    def _is_playing(self) -> bool:
        return bool(self._control.isProgramRunning()) and self._receive.getRuntimeState() == _PLAYING

    def _ask_model(self) -> str:
        """Which arm it is. Raises: RobotError when it is none of the e-Series that we know."""
        dashboard = self._dashboard(self._setup.host)
        dashboard.connect()
        found, version = dashboard.getRobotModel().strip(), dashboard.polyscopeVersion()
        dashboard.disconnect()
        # The e-Series, which came with PolyScope 5, goes by the names of the series before it.
        model = found.lower().rstrip("e") + ("e" if int(version.split(".")[0]) >= 5 else "")
        if model not in UR_TRAVEL:
            raise RobotError(
                f"The arm is a {found} with PolyScope {version}: {', '.join(map(_name, UR_TRAVEL))} are known."
            )
        return model


def _name(model: str) -> str:
    return f"UR{model[2:]}" if model.startswith("ur") else model.capitalize()
