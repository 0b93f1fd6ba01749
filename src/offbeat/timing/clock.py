"""What time costs: the clock every schedule runs under, and the grid of deadlines an environment keeps on it.

Under the virtual clock one process plays the robot's time: a stage costs what the timing profile draws, and workers
(sampler, updater) are events beside the interaction:

    interaction  |act|store|......wait......|act|store|......wait......|
    SAMPLE             |--sample--|               |--sample--|
    UPDATE                        |--------update--------|--------update----
                                  ^ start(): reads        ^ finish(): publishes
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from offbeat.timing.profile import Distribution, Stage, TimingProfile

StageListener = Callable[[Stage, float, float], None]

ROUNDING_S = 1e-9
"""Lateness below this (s) is rounding of sums, not lateness."""

WAKE_S = 0.001
"""A wake-up up to this late (s) is no missed deadline; on a machine at rest it is a microsecond."""

_CHUNK = 1024  # costs drawn at once
_NEVER_S = math.inf  # when an idle worker ends
_STREAM_KEY = 0xC10C  # keeps the clock's random streams apart from every other use of the run's seed


class Clock(Protocol):
    """Seconds since the run began, and what a stage costs."""

    def now(self) -> float:
        """Time since the run began (s)."""
        ...

    def sleep_until(self, deadline_s: float) -> float:
        """Let time pass until `deadline_s` (s); return how late it is then (s), 0.0 when on time."""
        ...

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """A block of code that is this stage and costs its time."""
        ...


class Worker(Protocol):
    """A stage that runs beside the interaction (Figure 3's sampling and updating processes)."""

    stage: Stage

    def ready(self) -> bool:
        """Whether there is something to work on; must turn False by itself when the work is done."""
        ...

    def start(self) -> None:
        """Read the inputs and compute; nothing may be visible to others yet."""
        ...

    def finish(self) -> None:
        """Publish the results."""
        ...


def is_missed(slack_s: float, lateness_s: float) -> bool:
    """Whether a deadline was missed: the cycle's work ended after it, or the wake-up came over `WAKE_S` after it.

    slack_s: from the end of the work to the deadline (s). lateness_s: from the deadline to the wake-up (s).
    """
    return slack_s < -ROUNDING_S or lateness_s > WAKE_S


class Wake(NamedTuple):
    """The end of a cycle.

    deadline_s: the deadline (s, run clock). slack_s: from the beginning of the waiting to the deadline (s), negative
    when the cycle's work was late. lateness_s: from the deadline to the wake-up (s), 0.0 or more.
    """

    deadline_s: float
    slack_s: float
    lateness_s: float

    @property
    def missed(self) -> bool:
        """Whether the deadline was missed."""
        return is_missed(self.slack_s, self.lateness_s)


class CycleGrid:
    """The deadlines of an episode: deadline k is start + k * cycle, computed, never accumulated.

    A missed deadline leaves the grid where it is, so a late cycle is followed by a short one; one later than a whole
    cycle restarts the grid, so that the robot does not hurry through the cycles it slept over.
    """

    def __init__(self, cycle_s: float) -> None:
        """A grid of `cycle_s` seconds; call `start` before the first `wait`."""
        self._cycle_s = cycle_s
        self._start_s = 0.0
        self._count = 0

    def start(self, now_s: float) -> None:
        """Begin the grid at `now_s` (s): the first deadline is one cycle later."""
        self._start_s = now_s
        self._count = 0

    def wait(self, clock: Clock) -> Wake:
        """Let time pass until the next deadline."""
        self._count += 1
        deadline_s = self._start_s + self._count * self._cycle_s
        slack_s = deadline_s - clock.now()
        lateness_s = clock.sleep_until(deadline_s)
        if lateness_s > self._cycle_s + ROUNDING_S:
            self.start(clock.now())
        return Wake(deadline_s, slack_s, lateness_s)


class _Costs:
    """The costs of one stage (s), drawn in chunks from the stage's own random stream."""

    def __init__(self, distribution: Distribution, seed: np.random.SeedSequence) -> None:
        self._distribution = distribution
        self._rng = np.random.default_rng(seed)
        self._refill()

    def _refill(self) -> None:
        self._chunk_state = self._rng.bit_generator.state
        self._chunk = self._distribution.draw(self._rng, _CHUNK).tolist()
        self._position = 0

    def next(self) -> float:
        if self._position == _CHUNK:
            self._refill()
        cost_s: float = self._chunk[self._position]
        self._position += 1
        return cost_s

    def state_dict(self) -> dict[str, Any]:
        return {"chunk_state": self._chunk_state, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = state["chunk_state"]
        self._refill()
        self._position = state["position"]


class _Block:
    """The context manager of one stage, made once and entered every cycle."""

    def __init__(self, clock: VirtualClock, stage: Stage) -> None:
        self._clock = clock
        self._stage = stage

    def __enter__(self) -> None:
        # STORE hands a transition over: charged first, so that nobody sees it before the stage has ended.
        if self._stage is Stage.STORE:
            self._clock._charge(self._stage)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._stage is not Stage.STORE:
            self._clock._charge(self._stage)


class _Seat:
    """A worker and its running stage; `end_s` is infinite while it is idle."""

    __slots__ = ("begin_s", "end_s", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.begin_s = 0.0
        self.end_s = _NEVER_S


class VirtualClock:
    """Simulated time in one process: faster than real time and the same to the bit in every run of one seed.

    A stage of the interaction lets its drawn cost pass; a worker's stage starts as soon as the worker is ready (time
    t), reads its inputs then, and publishes at t + cost. At one instant stages end in the order of `Stage`, sampler
    before updater: the data flows that way, so the updater can take at once what the sampler just filled. Ends come
    before the interaction goes on, so weights published at the instant of an action are the ones it uses.

    Every stage draws from a random stream of its own, so two schedules of one seed meet the same costs, stage by
    stage: a comparison differs in the schedule alone.
    """

    paused: bool
    """True: no worker starts a new stage (running ones end)."""

    def __init__(self, profile: TimingProfile, seed: int, on_stage: StageListener | None = None) -> None:
        """A clock at 0 s. `on_stage(stage, begin_s, end_s)` is called at the end of every stage, whoever ran it."""
        self.paused = False
        self._now_s = 0.0
        self._on_stage = on_stage
        self._costs = {
            stage: _Costs(profile.stages[stage], np.random.SeedSequence(seed, spawn_key=(_STREAM_KEY, rank)))
            for rank, stage in enumerate(Stage)
        }
        self._blocks = {stage: _Block(self, stage) for stage in Stage}
        self._seats: list[_Seat] = []

    def now(self) -> float:
        """Time since the run began (s)."""
        return self._now_s

    def sleep_until(self, deadline_s: float) -> float:
        """Let time pass until `deadline_s`; return how late it is already (s), 0.0 when on time."""
        late_s = self._now_s - deadline_s
        if late_s < 0.0:
            self._advance(deadline_s)
            return 0.0
        return late_s if late_s > ROUNDING_S else 0.0

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """A block that costs what the profile draws for `stage`; a block that raises costs nothing."""
        return self._blocks[stage]

    def attach(self, worker: Worker) -> None:
        """Run `worker` beside the interaction from now on. Raises: ValueError when its stage already has a worker."""
        if any(seat.worker.stage is worker.stage for seat in self._seats):
            raise ValueError(f"The clock already has a worker for {worker.stage.value}: attach one for each stage.")
        self._seats.append(_Seat(worker))
        ranks = {stage: rank for rank, stage in enumerate(Stage)}
        self._seats.sort(key=lambda seat: ranks[seat.worker.stage])

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which the same future follows: time, random streams, stages that workers are in."""
        return {
            "now_s": self._now_s,
            "paused": self.paused,
            "costs": {stage.value: costs.state_dict() for stage, costs in self._costs.items()},
            "running": {
                seat.worker.stage.value: [seat.begin_s, seat.end_s] for seat in self._seats if seat.end_s < _NEVER_S
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; the workers must be attached (and given their own states).

        Raises: ValueError when a stage was running whose worker is not attached.
        """
        running = dict(state["running"])
        missing = set(running) - {seat.worker.stage.value for seat in self._seats}
        if missing:
            raise ValueError(
                f"The clock's state runs {', '.join(sorted(missing))}: attach these workers before loading it."
            )
        self._now_s = state["now_s"]
        self.paused = state["paused"]
        for stage, costs in self._costs.items():
            costs.load_state_dict(state["costs"][stage.value])
        for seat in self._seats:
            seat.begin_s, seat.end_s = running.get(seat.worker.stage.value, (0.0, _NEVER_S))

    def _charge(self, stage: Stage) -> None:
        begin_s = self._now_s
        self._advance(begin_s + self._costs[stage].next())
        if self._on_stage is not None:
            self._on_stage(stage, begin_s, self._now_s)

    def _advance(self, target_s: float) -> None:
        """Play the workers' events up to and including `target_s`, in order of time, then of stage."""
        seats = self._seats
        if seats:
            self._start_ready()
            while (seat := self._first_to_end()).end_s <= target_s:
                self._now_s = seat.end_s
                self._finish(seat)
                self._start_ready()
        self._now_s = target_s

    def _first_to_end(self) -> _Seat:
        """The first of equals: seats are in stage order."""
        first = self._seats[0]
        for seat in self._seats:
            if seat.end_s < first.end_s:
                first = seat
        return first

    def _start_ready(self) -> None:
        if self.paused:
            return
        for seat in self._seats:
            if seat.end_s == _NEVER_S and seat.worker.ready():
                seat.worker.start()
                seat.begin_s = self._now_s
                seat.end_s = self._now_s + self._costs[seat.worker.stage].next()

    def _finish(self, seat: _Seat) -> None:
        begin_s, end_s, seat.end_s = seat.begin_s, seat.end_s, _NEVER_S
        seat.worker.finish()
        if self._on_stage is not None:
            self._on_stage(seat.worker.stage, begin_s, end_s)
