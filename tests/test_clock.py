"""The virtual clock and the grid of deadlines: hand-played events, and the same future after a resume."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offbeat.timing.clock import ROUNDING_S, CycleGrid, VirtualClock
from offbeat.timing.profile import Stage, load_profile


class Recorder:
    """Keeps what a clock reports, in whole tenths of a millisecond."""

    def __init__(self) -> None:
        self.events: list[tuple[str, float, float]] = []

    def __call__(self, stage: Stage, begin_s: float, end_s: float) -> None:
        self.events.append((stage.value, round(begin_s * 1e3, 1), round(end_s * 1e3, 1)))


class Jobs:
    """A worker that does as many jobs as it is given, and notes when it read and when it published."""

    def __init__(self, stage: Stage, clock: VirtualClock, jobs: int = 0, passes_to: Jobs | None = None) -> None:
        self.stage = stage
        self.jobs = jobs
        self.passes_to = passes_to
        self.clock = clock
        self.notes: list[tuple[str, float]] = []

    def ready(self) -> bool:
        return self.jobs > 0

    def start(self) -> None:
        self.jobs -= 1
        self.notes.append(("start", round(self.clock.now() * 1e3, 1)))

    def finish(self) -> None:
        self.notes.append(("finish", round(self.clock.now() * 1e3, 1)))
        if self.passes_to is not None:
            self.passes_to.jobs += 1


def make_clock(act: float = 0, store: float = 0, sample: float = 0, update: float = 0, **kwargs: Any) -> VirtualClock:
    """A clock of constant costs (ms)."""
    profile = load_profile(f"constant:act={act},store={store},sample={sample},update={update}")
    return VirtualClock(profile, seed=0, **kwargs)


def test_a_stage_costs_its_time_when_its_block_ends() -> None:
    recorder = Recorder()
    clock = make_clock(act=3, on_stage=recorder)
    with clock.stage(Stage.ACT):
        assert clock.now() == 0.0
    assert clock.now() == pytest.approx(0.003)
    assert recorder.events == [("act", 0.0, 3.0)]


def test_a_transition_is_handed_over_at_the_end_of_its_stage() -> None:
    clock = make_clock(store=2)
    with clock.stage(Stage.STORE):
        assert clock.now() == pytest.approx(0.002)
    assert clock.now() == pytest.approx(0.002)


def test_a_block_that_raises_costs_nothing() -> None:
    clock = make_clock(act=3)
    with pytest.raises(KeyError), clock.stage(Stage.ACT):
        raise KeyError
    assert clock.now() == 0.0


def test_sleep_returns_how_late_it_woke() -> None:
    clock = make_clock(act=3)
    assert clock.sleep_until(0.5) == 0.0
    assert clock.now() == 0.5
    assert clock.sleep_until(0.4) == pytest.approx(0.1)
    assert clock.now() == 0.5
    assert clock.sleep_until(0.5 - 1e-13) == 0.0  # rounding is not lateness


def test_workers_run_beside_the_interaction() -> None:
    recorder = Recorder()
    clock = make_clock(act=3, sample=4, update=10, on_stage=recorder)
    updater = Jobs(Stage.UPDATE, clock)
    sampler = Jobs(Stage.SAMPLE, clock, jobs=2, passes_to=updater)
    clock.attach(updater)  # the order of attaching does not matter
    clock.attach(sampler)
    with clock.stage(Stage.ACT):
        pass
    clock.sleep_until(0.040)
    # Samples 0-4 and 4-8; the first batch is updated on 4-14, the second, ready at 8, on 14-24.
    assert sampler.notes == [("start", 0.0), ("finish", 4.0), ("start", 4.0), ("finish", 8.0)]
    assert updater.notes == [("start", 4.0), ("finish", 14.0), ("start", 14.0), ("finish", 24.0)]
    assert recorder.events == [
        ("act", 0.0, 3.0),
        ("sample", 0.0, 4.0),
        ("sample", 4.0, 8.0),
        ("update", 4.0, 14.0),
        ("update", 14.0, 24.0),
    ]
    assert clock.now() == 0.040


def test_stages_that_end_together_end_in_the_order_of_the_data() -> None:
    order: list[str] = []
    clock = make_clock(sample=10, update=10, on_stage=lambda stage, begin_s, end_s: order.append(stage.value))
    clock.attach(Jobs(Stage.UPDATE, clock, jobs=1))
    clock.attach(Jobs(Stage.SAMPLE, clock, jobs=1))
    clock.sleep_until(1.0)
    assert order == ["sample", "update"]


def test_what_ends_at_an_instant_is_there_for_the_interaction() -> None:
    clock = make_clock(update=10)
    updater = Jobs(Stage.UPDATE, clock, jobs=1)
    clock.attach(updater)
    clock.sleep_until(0.010)
    assert updater.notes[-1] == ("finish", 10.0)


def test_paused_workers_end_but_do_not_start() -> None:
    clock = make_clock(update=10)
    updater = Jobs(Stage.UPDATE, clock, jobs=3)
    clock.attach(updater)
    clock.sleep_until(0.005)
    clock.paused = True
    clock.sleep_until(0.050)
    clock.paused = False
    clock.sleep_until(0.055)
    assert updater.notes == [("start", 0.0), ("finish", 10.0), ("start", 50.0)]


def test_one_worker_a_stage() -> None:
    clock = make_clock()
    clock.attach(Jobs(Stage.UPDATE, clock))
    with pytest.raises(ValueError, match="already has a worker for update"):
        clock.attach(Jobs(Stage.UPDATE, clock))


def _costs(stages: list[Stage], seed: int = 7) -> dict[Stage, list[float]]:
    costs: dict[Stage, list[float]] = {stage: [] for stage in Stage}
    clock = VirtualClock(load_profile("paper-base"), seed)
    for stage in stages:
        before_s = clock.now()
        with clock.stage(stage):
            pass
        costs[stage].append(clock.now() - before_s)
    return costs


@given(st.lists(st.sampled_from(list(Stage)), max_size=30))
def test_costs_of_a_stage_do_not_depend_on_the_other_stages(stages: list[Stage]) -> None:
    mixed = _costs(stages)
    for stage in Stage:
        alone = _costs([stage] * len(mixed[stage]))
        assert mixed[stage] == pytest.approx(alone[stage], abs=1e-12)


def test_another_seed_costs_differently() -> None:
    assert _costs([Stage.UPDATE], 1) != _costs([Stage.UPDATE], 2)


def _play(clock: VirtualClock, cycles: int) -> None:
    for _ in range(cycles):
        with clock.stage(Stage.ACT):
            pass
        clock.sleep_until(clock.now() + 0.0371)


def _make_working(recorder: Recorder) -> tuple[VirtualClock, Jobs, Jobs]:
    clock = VirtualClock(load_profile("paper-base"), 3, recorder)
    updater = Jobs(Stage.UPDATE, clock)
    sampler = Jobs(Stage.SAMPLE, clock, jobs=2000, passes_to=updater)
    clock.attach(sampler)
    clock.attach(updater)
    return clock, sampler, updater


@pytest.mark.parametrize("cycles", [0, 1, 17, 1100])
def test_a_resumed_clock_has_the_same_future(cycles: int) -> None:
    one, other = Recorder(), Recorder()
    clock, sampler, updater = _make_working(one)
    _play(clock, cycles)
    state, jobs, seen = clock.state_dict(), (sampler.jobs, updater.jobs), len(one.events)
    _play(clock, 50)
    resumed, sampler, updater = _make_working(other)
    sampler.jobs, updater.jobs = jobs
    resumed.load_state_dict(state)
    _play(resumed, 50)
    assert resumed.now() == clock.now()
    assert other.events == one.events[seen:]


def test_a_running_stage_needs_its_worker() -> None:
    clock = make_clock(update=10)
    clock.attach(Jobs(Stage.UPDATE, clock, jobs=1))
    clock.sleep_until(0.005)
    with pytest.raises(ValueError, match="runs update: attach these workers"):
        make_clock(update=10).load_state_dict(clock.state_dict())


def test_a_grid_is_computed_never_accumulated() -> None:
    clock = make_clock()
    clock.sleep_until(0.3)
    grid = CycleGrid(0.04)
    grid.start(clock.now())
    deadlines_s = [grid.wait(clock)[0] for _ in range(1000)]
    assert deadlines_s == [0.3 + k * 0.04 for k in range(1, 1001)]
    assert clock.now() == deadlines_s[-1]


def test_a_missed_deadline_leaves_the_grid_where_it_is() -> None:
    clock = make_clock()
    grid = CycleGrid(0.04)
    grid.start(0.0)
    clock.sleep_until(0.055)
    wake = grid.wait(clock)
    assert wake == (0.04, pytest.approx(-0.015), pytest.approx(0.015)) and wake.missed
    wake = grid.wait(clock)
    assert wake == (0.08, pytest.approx(0.025), 0.0) and not wake.missed


def test_later_than_a_whole_cycle_restarts_the_grid() -> None:
    clock = make_clock()
    grid = CycleGrid(0.04)
    grid.start(0.0)
    clock.sleep_until(0.095)
    assert grid.wait(clock) == (0.04, pytest.approx(-0.055), pytest.approx(0.055))
    assert grid.wait(clock) == (pytest.approx(0.135), pytest.approx(0.04), 0.0)


@given(st.lists(st.floats(0.0, 0.2), min_size=1, max_size=40))
def test_a_grid_never_goes_back_and_reports_what_the_clock_says(work_s: list[float]) -> None:
    clock = make_clock()
    grid = CycleGrid(0.04)
    grid.start(0.0)
    last_s = 0.0
    for seconds in work_s:
        begin_s = clock.now()
        clock.sleep_until(begin_s + seconds)
        deadline_s, slack_s, lateness_s = grid.wait(clock)
        assert lateness_s == pytest.approx(max(0.0, -slack_s), abs=ROUNDING_S)
        assert deadline_s > last_s
        assert clock.now() == pytest.approx(deadline_s + lateness_s)
        assert deadline_s <= begin_s + 0.04 + 1e-9  # never more than a cycle to wait
        last_s = deadline_s
