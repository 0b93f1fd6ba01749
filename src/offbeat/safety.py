"""The velocity filter between the policy and any arm: whatever is commanded, the arm can still stop in time.

A velocity is sent only with a plan to stop after it. The plan assumes the worst that the schedule allows:

    joint velocity     start ___________ velocity u, held for `horizon_s` in case the next command is late
                            /           \\___________ u (1 - 1/m)
                       first ramp                    \\___________ ...   m commands to a stand, all of them late

where m = max_i |u_i| / (acceleration_i x cycle) is the number of commands that braking takes. All joints brake in
proportion, so what follows u is a straight line in joint space, `stopping_time` x u long, which is walked with exact
forward kinematics, once for an arm that jumps to a commanded velocity and once for one that ramps to it at the
acceleration limit. No joint bound and no face of the box may be crossed on the way.

The plan of braking is a piece of the plan of u. So once a plan is safe, braking is safe in every later cycle, and the
filter always has an answer. Where the state was not safe (the paper's reset can end above the box), the answer may not
be worse than braking on any bound, and the arm is driven back.

A command whose plan is not safe is changed as little as possible: the nearest velocity (least squares) that keeps all
bounds to first order, then checked, tightened by what its exact plan exceeds, and checked again.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from offbeat.errors import ActionError, ConfigError, RobotError
from offbeat.robots.models import MODELS
from offbeat.safety_limits import SafetyLimits
from offbeat.types import FloatArray, RobotState

__all__ = ["SafetyLimits", "VelocityFilter", "nearest_velocity", "stopping_distance", "stopping_time"]

# Plans stay this far inside of the bounds, for what the plan does not know (servo lag, a bag that pulls).
_MARGIN_M = 0.002
_MARGIN_RAD = 0.003
# A plan may exceed the margins by this much, so that rounding and curvature need no further correction.
_TOLERANCE = 2e-4
# A plan is walked in steps so small that the flange's true path bends away from its chords by less than this (m).
_CHORD_M = 5e-4
_MAX_CHORDS = 64
# Where a plan looks at the first ramp (shares of its time).
_RAMP_SHARES = np.array([[1 / 3], [2 / 3], [1.0]])
_CORRECTIONS = 4
# The nearest velocity gives way on a face, rather than fail, when no velocity keeps all of them.
_STIFFNESS = 1e3
_NEWTON_STEPS = 20
_HALVINGS = 10


def stopping_time(velocity_rad_s: FloatArray, change_rad_s: FloatArray, horizon_s: float) -> float:
    """T (s) such that joints told to move at u now, and to brake in proportion from the next command on, move by T u.

    velocity_rad_s: u (n,) rad/s. change_rad_s: the largest change of each velocity from one command to the next (n,)
    rad/s. Each command is held for `horizon_s` = H. With m = max_i |u_i| / change_i commands to a stand and
    n = max(1, ceil(m)),

        T = H (1 + (1 - 1/m) + ... + (1 - (n-1)/m)) = H (n - n (n - 1) / (2 m)).
    """
    commands = float((np.abs(velocity_rad_s) / change_rad_s).max())
    if commands <= 1.0:
        return horizon_s
    count = math.ceil(commands)
    return horizon_s * (count - count * (count - 1) / (2 * commands))


def stopping_distance(
    velocity_rad_s: FloatArray, acceleration_rad_s2: FloatArray, cycle_s: float, horizon_s: float
) -> FloatArray:
    """How far joints still move (n,) rad, signed, that were told to move at u (n,) rad/s and then to brake.

    acceleration_rad_s2: limits a (n,). It is T u of `stopping_time`, plus what ramping down by |u_i| / max(m, 1) a
    command at a_i adds to jumping: u_i |u_i| / (2 a_i max(m, 1)).
    """
    velocity = np.asarray(velocity_rad_s, float)
    change = np.asarray(acceleration_rad_s2, float) * cycle_s
    commands = max(float(np.max(np.abs(velocity) / change)), 1.0)
    ramps = velocity * np.abs(velocity) / (2 * np.asarray(acceleration_rad_s2) * commands)
    return velocity * stopping_time(velocity, change, horizon_s) + ramps


def nearest_velocity(
    wanted: FloatArray, lower: FloatArray, upper: FloatArray, rows: FloatArray, bounds: FloatArray
) -> FloatArray:
    """The velocity u nearest to `wanted` (n,) with lower <= u <= upper and rows (k, n) u <= bounds (k,).

    Minimises |u - wanted|^2 / 2 + stiffness |max(rows u - bounds, 0)|^2 / 2 between lower and upper: where no u keeps
    every row, the rows give way evenly. Damped Newton steps on its dual, which is concave and piecewise quadratic in
    the price of each row; u is `wanted`, less the priced rows, clipped.
    """
    price = np.zeros(len(bounds))
    velocity = np.minimum(np.maximum(wanted, lower), upper)
    value = -math.inf
    for _ in range(_NEWTON_STEPS):
        excess = rows @ velocity - bounds - price / _STIFFNESS
        active = (price > 0) | (excess > 0)
        if not (np.abs(excess[active]) > 1e-6).any():
            break
        unclipped = wanted - price @ rows
        free = rows[active] * ((unclipped >= lower) & (unclipped <= upper))
        curvature = free @ free.T
        curvature.flat[:: len(curvature) + 1] += 1 / _STIFFNESS
        step = np.zeros(len(bounds))
        step[active] = np.linalg.solve(curvature, excess[active])
        before = value
        for halvings in range(_HALVINGS):
            trial = np.maximum(price + step * 0.5**halvings, 0.0)
            velocity = np.minimum(np.maximum(wanted - trial @ rows, lower), upper)
            gap = velocity - wanted
            value = float(gap @ gap / 2 + trial @ (rows @ velocity - bounds) - trial @ trial / (2 * _STIFFNESS))
            if value > before:
                break
        price = trial
    return velocity


class VelocityFilter:
    """Turns the policy's velocity command into one that keeps every limit, once a cycle.

    limits: what is held. cycle_s: the action cycle (s). horizon_s: the longest time from one command to the next (s);
    two cycles by default, so that any command may come a whole cycle late. Raises: ConfigError.

    Velocity and acceleration limits hold always; bounds and box hold once the arm is inside them, and outside them it
    is driven back within the limits. Deterministic: the answer depends on the state, the command and the last answer.
    """

    def __init__(self, limits: SafetyLimits, cycle_s: float, horizon_s: float | None = None) -> None:
        if not 0 < cycle_s < math.inf:
            raise ConfigError(f"cycle_s is {cycle_s}: give a cycle time above 0 s.")
        horizon_s = 2 * cycle_s if horizon_s is None else horizon_s
        if not cycle_s <= horizon_s < math.inf:
            raise ConfigError(f"horizon_s is {horizon_s}, less than a cycle of {cycle_s} s: use one cycle or more.")
        self.limits = limits
        self.cycle_s, self.horizon_s = cycle_s, horizon_s
        self._arm = MODELS[limits.robot]
        self._joints = joints = self._arm.joints
        self._velocity = np.array(limits.velocity_rad_s, float)
        self._acceleration = np.array(limits.acceleration_rad_s2, float)
        # A hair less than the limit, so that a difference of two answers, once rounded, does not pass it.
        self._change = self._acceleration * cycle_s * (1 - 1e-9)
        # Bounds as one row: N joints (rad), then x, y, z of the flange (m).
        self._lower = np.array([*limits.joint_lower_rad, *limits.box_lower_m], float)
        self._upper = np.array([*limits.joint_upper_rad, *limits.box_upper_m], float)
        margin = np.minimum([_MARGIN_RAD] * joints + [_MARGIN_M] * 3, (self._upper - self._lower) / 4)
        self._inner_lower, self._inner_upper = self._lower + margin, self._upper - margin
        self._return = np.array([limits.return_speed_rad_s] * joints + [limits.return_speed_m_s] * 3)
        self._last, self._stamp_s = np.zeros(joints), -math.inf

    def reset(self, joint_rad_s: FloatArray | None = None) -> None:
        """Start anew after a move or a stop; joint_rad_s: the velocity it holds now (N,) rad/s, zero by default."""
        held = np.zeros(self._joints) if joint_rad_s is None else joint_rad_s
        self._last = _vector(held, self._joints, "The velocity held").copy()
        self._stamp_s = -math.inf

    def filter(self, command_rad_s: FloatArray, state: RobotState) -> FloatArray:
        """The velocity to send (N,) rad/s for a commanded one (N,) rad/s.

        state: of the arm at the moment the command leaves; its stamp tells how long ago the last answer left.
        Raises: ActionError when the command is not N finite numbers, and RobotError when the state is not; nothing
        may be sent then, and the arm is to be stopped.
        """
        command = _vector(command_rad_s, self._joints, "A velocity command")
        position, measured = np.asarray(state.joint_rad, float), np.asarray(state.joint_rad_s, float)
        shape = (self._joints,)
        if position.shape != shape or measured.shape != shape or not np.isfinite(position + measured).all():
            raise RobotError(f"The arm's state must be {self._joints} finite positions and velocities: it is {state}.")
        change = self._change_allowed(state.stamp_s)
        lowest, highest = self._reachable(change)
        wanted = np.minimum(np.maximum(command, lowest), highest)
        # An arm that lags still moves as measured, one that reports late already as commanded: plan for the faster.
        start = np.where(np.abs(measured) > np.abs(self._last), measured, self._last)
        if self._excess(position, start, wanted).max() > _TOLERANCE:
            brake = self._last * (1 - 1 / max(float(np.max(np.abs(self._last) / change)), 1.0))
            brake = np.minimum(np.maximum(brake, lowest), highest)
            wanted = self._restrain(position, start, wanted, brake, lowest, highest)
        self._last = np.minimum(np.maximum(wanted, lowest), highest)
        return self._last.copy()

    def _change_allowed(self, stamp_s: float) -> FloatArray:
        """The largest change since the last answer (N,) rad/s: that of a cycle, or less when it left less time ago.

        A stamp that does not move on counts as a cycle, for robots that keep no time.
        """
        elapsed_s = stamp_s - self._stamp_s
        self._stamp_s = stamp_s
        return self._change * min(elapsed_s / self.cycle_s, 1.0) if elapsed_s > 0 else self._change

    def _reachable(self, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest velocity that keep the acceleration limit and then, where both can be, the velocity's."""
        lowest = np.minimum(np.maximum(self._last - change, -self._velocity), self._last + change)
        highest = np.maximum(np.minimum(self._last + change, self._velocity), self._last - change)
        return lowest, highest

    def _excess(self, position: FloatArray, start: FloatArray, velocity: FloatArray) -> FloatArray:
        """How far the plan of a velocity passes each inner bound, N + 3 upper, then as many lower; below 0 inside."""
        path = self._path(position, start, velocity)
        flange = [self._arm.flange_position(joints) for joints in path.tolist()]
        path = np.concatenate([path, flange], axis=1)
        return np.concatenate([path.max(axis=0) - self._inner_upper, self._inner_lower - path.min(axis=0)])

    def _path(self, position: FloatArray, start: FloatArray, velocity: FloatArray) -> FloatArray:
        """Joint positions (k, N) along the plan of a velocity, for an arm that jumps to it and for one that ramps."""
        seconds = stopping_time(velocity, self._change, self.horizon_s)
        reach = velocity * seconds
        # The chord of a piece of length d / n bends by at most d' H d / (8 n^2), H the flange's second derivative,
        # of which no entry (i, j) is longer than the levers of joints i and j.
        size = np.abs(velocity)
        bend = float(size.sum() * (size @ self._arm.lever_m)) * seconds**2 / 8
        count = min(max(math.ceil(math.sqrt(bend / _CHORD_M)), 1), _MAX_CHORDS)
        share = np.arange(1, count + 1)[:, None] / count
        gap = start - velocity
        pace = np.abs(gap) / self._acceleration
        ramp = float(pace.max())
        # Braking by ramps and not by jumps goes further, by most in the joint that takes the most commands.
        brakes = size * velocity / (2 * self._acceleration * max(float((size / self._change).max()), 1.0))
        time = _RAMP_SHARES * ramp
        turning = np.minimum(time, pace)
        ramped = time * velocity + gap * turning * (1 - turning / np.maximum(2 * pace, 1e-9))
        end = reach + gap * pace / 2 + brakes
        moved = [np.zeros((1, self._joints)), share * reach, ramped, ramped[-1] + share * (end - ramped[-1])]
        return position + np.concatenate(moved)

    def _restrain(
        self,
        position: FloatArray,
        start: FloatArray,
        wanted: FloatArray,
        brake: FloatArray,
        lowest: FloatArray,
        highest: FloatArray,
    ) -> FloatArray:
        """The nearest velocity whose plan is safe or, where none is, exceeds no bound by more than braking does."""
        allowed: FloatArray | None = None
        seconds = stopping_time(wanted, self._change, self.horizon_s)
        rows, bounds = self._first_order(position, start, seconds)
        velocity = wanted
        for _ in range(_CORRECTIONS):
            above, below = np.split(bounds, 2)
            upper, lower = above[: self._joints], -below[: self._joints]
            upper = np.minimum(np.maximum(upper, lowest), highest)
            lower = np.maximum(np.minimum(lower, upper), lowest)
            faces = np.concatenate([above[self._joints :], below[self._joints :]])
            velocity = nearest_velocity(wanted, lower, upper, rows, faces)
            excess = self._excess(position, start, velocity)
            if excess.max() <= _TOLERANCE:
                return velocity
            if allowed is None:
                allowed = np.maximum(self._excess(position, start, brake), _TOLERANCE)
            over = excess - allowed
            if over.max() <= 0:
                return velocity
            bounds = bounds - np.maximum(over + _TOLERANCE / 2, 0.0) * (1.2 / seconds)
        for share in (0.7, 0.4, 0.2, 0.1):
            milder = brake + share * (velocity - brake)
            if allowed is None or (self._excess(position, start, milder) <= allowed).all():
                return milder
        return brake

    def _first_order(self, position: FloatArray, start: FloatArray, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Rows (6, N) that make face speeds of a velocity, and its bounds (2 N + 6,), ordered as those of `_excess`.

        A plan moves a coordinate told to go at speed v by v `seconds`, and by s cycle / 2 more when the arm ramps from
        speed s and down again.
        """
        pose, jac = self._arm.kinematics(position)
        place = np.concatenate([position, pose[:3, 3]])
        speed = np.concatenate([start, jac[:3] @ start])
        room = np.concatenate([self._inner_upper - place, place - self._inner_lower])
        ramps = np.maximum(np.concatenate([speed, -speed]), 0.0) * (self.cycle_s / 2)
        bounds = (room - ramps) / seconds
        outside = np.concatenate([place > self._upper, place < self._lower])
        bounds = np.where(outside, -np.tile(self._return, 2), bounds)
        return np.concatenate([jac[:3], -jac[:3]]), bounds


def _vector(values: FloatArray, size: int, what: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ActionError(f"{what} must be {size} finite numbers (rad/s), and {values!r} is not.") from error
    if array.shape != (size,):
        raise ActionError(f"{what} must be {size} numbers (rad/s), and this one has the shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ActionError(f"{what} must be {size} finite numbers (rad/s), and this one is {array.tolist()}.")
    return array
