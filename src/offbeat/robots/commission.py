"""What is found out about an arm and a camera before anything learns on them: by watching, then by small moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from offbeat.errors import MoveTimeoutError, RobotError, StaleFrameError
from offbeat.robots.base import Camera, Robot
from offbeat.robots.models.arm import ArmModel
from offbeat.robots.watchdog import STILL_RAD_S
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray, Frame, RobotState

SPEED_RAD_S = 0.2
"""Speed of a joint in the moves of commissioning (rad/s), a policy's own: 11 degrees a second."""

_LOOK_S = 0.001  # time between two looks at a robot or a camera
_MAX_AGE_S = 0.5  # an image older than this is not counted as there
_RATE_HZ, _GAIN_PER_S = 40.0, 5.0
_STAND_S = 1.0  # the longest wait for a stand after a move
_NUDGE_S, _NUDGE_SHARE = 3.0, 0.05  # it takes 0.6 s to be so near to the angle, as a share of it
_ASTRAY = 2.0  # times what was asked: a joint that moves so far is not the one that was told to
_FLOOR_M = 0.005


@dataclass(frozen=True)
class Spread:
    """Median, 99th percentile and greatest of some times (ms)."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of times in seconds, at least one."""
        p50, p99, most = (np.percentile(seconds, (50, 99, 100)) * 1e3).tolist()
        return cls(p50, p99, most)

    def __str__(self) -> str:
        return f"median {self.p50:.1f} ms, p99 {self.p99:.1f} ms, at most {self.most:.1f} ms"


@dataclass(frozen=True)
class CameraTiming:
    """What a camera gave while it was watched.

    images, seconds: how many, in which time. rate_hz: images a second by their stamps. interval_ms: between two stamps.
    latency_ms: from the stamp to the arrival here. newest: the last image. lost_s: how long in all there was none.
    """

    images: int
    seconds: float
    rate_hz: float
    interval_ms: Spread
    latency_ms: Spread
    newest: Frame
    lost_s: float

    def complaints(self, rate_hz: float) -> list[str]:
        """What is wrong with it, a sentence each. rate_hz: the rate that was asked for."""
        found = []
        if self.rate_hz < 0.9 * rate_hz:
            found.append(
                f"Slow: {self.rate_hz:.1f} images a second where {rate_hz:g} were asked for. Give it more light or a "
                "fixed exposure, a USB 3 port of its own, or a smaller image."
            )
        if self.interval_ms.most > 2.5e3 / rate_hz:
            found.append(
                f"Uneven: {self.interval_ms.most:.0f} ms between two images where {1e3 / rate_hz:.0f} are due. Take "
                "other devices off its USB hub, and see what else this machine is busy with."
            )
        if self.lost_s > 0:
            found.append(f"Interrupted: there was no image for {self.lost_s:.1f} s. Check plug and cable.")
        return found


def time_camera(camera: Camera, clock: Clock, seconds: float) -> CameraTiming:
    """Watch a camera for some seconds. Raises: StaleFrameError when fewer than two images came."""
    stamps, latencies, lost_s = list[float](), list[float](), 0.0
    newest: Frame | None = None
    error: StaleFrameError | None = None
    start_s = look_s = clock.now()
    while look_s < start_s + seconds:
        try:
            frame, stale = camera.read_latest(_MAX_AGE_S), False
            if newest is None or frame.captured_s > newest.captured_s:
                stamps.append(frame.captured_s)
                latencies.append(clock.now() - frame.captured_s)
                newest = frame
        except StaleFrameError as raised:
            error, stale = raised, True
        clock.sleep_until(look_s + _LOOK_S)
        before_s, look_s = look_s, clock.now()
        lost_s += look_s - before_s if stale else 0.0
    if newest is None or len(stamps) < 2:
        raise error or StaleFrameError(f"The camera gave {len(stamps)} images in {seconds:g} s: watch it for longer.")
    intervals = np.diff(stamps)
    return CameraTiming(
        images=len(stamps),
        seconds=look_s - start_s,
        rate_hz=1.0 / float(intervals.mean()),
        interval_ms=Spread.of(intervals.tolist()),
        latency_ms=Spread.of(latencies[1:]),  # the first image may have waited for us
        newest=newest,
        lost_s=lost_s,
    )


@dataclass(frozen=True)
class StateTiming:
    """What an arm told of itself while it was watched.

    rate_hz: new states a second. age_ms: of the newest state whenever it was read. read_ms: what reading took.
    """

    rate_hz: float
    age_ms: Spread
    read_ms: Spread


def time_states(robot: Robot, clock: Clock, seconds: float) -> StateTiming:
    """Watch an arm that stands for some seconds. Raises: RobotError as `read_state`."""
    stamps, ages, reads = set[float](), list[float](), list[float]()
    start_s = clock.now()
    while (before_s := clock.now()) < start_s + seconds:
        state = robot.read_state()
        now_s = clock.now()
        stamps.add(state.stamp_s)
        ages.append(now_s - state.stamp_s)
        reads.append(now_s - before_s)
        clock.sleep_until(before_s + _LOOK_S)
    return StateTiming((len(stamps) - 1) / (max(stamps) - min(stamps) or seconds), Spread.of(ages), Spread.of(reads))


def glide(
    robot: Robot,
    clock: Clock,
    goal_rad: FloatArray,
    timeout_s: float,
    tolerance_rad: float,
    speed_rad_s: float = SPEED_RAD_S,
    look: Callable[[RobotState], None] | None = None,
) -> RobotState:
    """Move all joints straight to a position (N,) rad so that they arrive together, and stop, whatever happens.

    speed_rad_s: of the joint with the longest way. look: is shown every state on the way, and may raise. Returns the
    state when the arm stands; whether it has arrived is for the caller to see. Raises: RobotError.
    """
    start_s = clock.now()
    try:
        for tick in itertools.count(1):
            state = robot.read_state()
            if look is not None:
                look(state)
            gap = goal_rad - state.joint_rad
            furthest = float(np.abs(gap).max())
            if furthest <= tolerance_rad or clock.now() >= start_s + timeout_s:
                break
            robot.command_velocity(gap * (min(_GAIN_PER_S * furthest, speed_rad_s) / furthest))
            clock.sleep_until(start_s + tick / _RATE_HZ)
    finally:
        robot.stop()
    stopped_s = clock.now()
    while True:
        clock.sleep_until(clock.now() + 1 / _RATE_HZ)
        state = robot.read_state()
        if np.abs(state.joint_rad_s).max() <= STILL_RAD_S or clock.now() > stopped_s + _STAND_S:
            return state


@dataclass(frozen=True)
class Nudge:
    """A small move of one joint and back.

    joint: its number, from 0. asked_rad, moved_rad: what it was told and what it did. left_rad: how far from its
    beginning it was in the end. others_rad: the most that any other joint moved.
    """

    joint: int
    asked_rad: float
    moved_rad: float
    left_rad: float
    others_rad: float

    @property
    def complaint(self) -> str:
        """What is wrong, or ""."""
        allowed_rad = 0.3 * abs(self.asked_rad)
        if abs(self.moved_rad) < allowed_rad:
            return "did not move"
        if abs(self.moved_rad - self.asked_rad) > allowed_rad:
            return "moved by another angle"
        if abs(self.left_rad) > allowed_rad:
            return "did not come back"
        return "moved others as well" if self.others_rad > allowed_rad else ""


def nudge(robot: Robot, clock: Clock, joint: int, angle_rad: float) -> Nudge:
    """Move one joint by a small angle (rad) and back.

    Raises: RobotError, with the arm told to stop, when the joint moves the other way or a joint goes astray.
    """
    begin = robot.read_state().joint_rad.copy()
    goal = begin.copy()
    goal[joint] += angle_rad
    most_rad, missing_rad = _ASTRAY * abs(angle_rad), _NUDGE_SHARE * abs(angle_rad)

    def look(state: RobotState) -> None:
        moved = state.joint_rad - begin
        if np.abs(moved).max() > most_rad or moved[joint] * np.sign(angle_rad) < -most_rad / 4:
            told = ", ".join(f"{angle:+.2f}" for angle in np.degrees(moved))
            raise RobotError(
                f"Joint {joint + 1} was told to move by {np.degrees(angle_rad):+.2f} degrees and the joints moved by "
                f"{told} degrees: stop here, and see whether this is the arm that was named and its driver fits."
            )

    out = glide(robot, clock, goal, _NUDGE_S, missing_rad, look=look).joint_rad - begin
    back = glide(robot, clock, begin, _NUDGE_S, missing_rad, look=look).joint_rad - begin
    others = np.abs(np.delete([out, back], joint, axis=1)).max()
    return Nudge(joint, angle_rad, float(out[joint]), float(back[joint]), float(others))


@dataclass(frozen=True)
class Way:
    """A straight way of the joints: from, to (N,) rad; the flange's places from, to (3,) m; its lowest height (m)."""

    begin_rad: FloatArray
    goal_rad: FloatArray
    flange_m: tuple[FloatArray, FloatArray]
    lowest_m: float

    @property
    def seconds(self) -> float:
        """How long it takes (s), about."""
        return float(np.abs(self.goal_rad - self.begin_rad).max()) / SPEED_RAD_S


def plan_way(arm: ArmModel, begin_rad: FloatArray, goal_rad: FloatArray, floor_m: float) -> Way:
    """The straight way between two joint positions (N,) rad.

    floor_m: the height under which the flange must not go (m), where it begins above it. Raises: RobotError.
    """
    points = [begin_rad + share * (goal_rad - begin_rad) for share in np.linspace(0.0, 1.0, 51)]
    flange = np.array([arm.flange_position(point.tolist()) for point in points])
    lowest_m = float(flange[:, 2].min())
    allowed_m = min(floor_m, float(flange[0, 2])) - _FLOOR_M
    if lowest_m < allowed_m:
        raise RobotError(
            f"On the straight way there the flange would go down to {lowest_m:.3f} m above the base, and {floor_m:g} m "
            "is the lowest that is safe over the table: guide the arm up by hand, then try again."
        )
    return Way(begin_rad, goal_rad, (flange[0], flange[-1]), lowest_m)


def go(robot: Robot, clock: Clock, way: Way, tolerance_rad: float = 0.01) -> RobotState:
    """Go a way and stand at its end. Raises: MoveTimeoutError when the arm does not get there; RobotError."""
    timeout_s = 2 * way.seconds + 2.0
    state = glide(robot, clock, way.goal_rad, timeout_s, tolerance_rad)
    off_rad = float(np.abs(state.joint_rad - way.goal_rad).max())
    if off_rad > 2 * tolerance_rad:
        raise MoveTimeoutError(
            f"The arm stands {off_rad:.3f} rad from its goal after {timeout_s:.1f} s: look for what is in its way."
        )
    return state
