"""One root for every error this package raises on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offbeat.types import RobotState


class OffbeatError(Exception):
    """Root of all errors raised by offbeat."""


class UserError(OffbeatError):
    """Something a user can put right; the command line prints it as one sentence and exits with code 2."""


class ConfigError(UserError, ValueError):
    """A configuration holds a value that cannot be run."""


class ActionError(UserError, ValueError):
    """An action is not a vector of finite numbers of the right length."""


class ProfileError(UserError, ValueError):
    """A timing profile is unknown, unreadable or lacks a stage."""


class RunError(UserError):
    """A run directory is missing, taken, or damaged."""


class DriverError(UserError):
    """A driver of an arm or a camera is unknown, cannot be loaded, or needs a library that is not installed."""


class RobotError(OffbeatError):
    """A robot did not do what it was told."""


class RobotFaultError(RobotError):
    """An arm has stopped by itself (a reflex, a protective stop) and can be recovered; the controller's own words.

    state: what it reads all the same, a `types.RobotState`; None where its controller gives none meanwhile.
    """

    def __init__(self, message: str, state: RobotState | None = None) -> None:
        super().__init__(message)
        self.state = state


class MoveTimeoutError(RobotError):
    """A move did not arrive within its time."""


class StaleFrameError(RobotError):
    """The newest image of a camera is older than allowed."""


class WorkerError(OffbeatError):
    """A process beside the interaction has died or got stuck.

    trace: the traceback it sent, or "".
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace
