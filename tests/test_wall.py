"""The wall clock: what it measures and when it lets go. Times are bounds that hold on any machine, never claims."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from offbeat.timing.clock import Clock, CycleGrid
from offbeat.timing.profile import Stage
from offbeat.timing.wall import CHECK_S, WallClock


def test_time_begins_at_the_epoch() -> None:
    before_s = time.monotonic()
    clock: Clock = WallClock(epoch_s=before_s - 5.0)
    assert 5.0 <= clock.now() <= 5.0 + time.monotonic() - before_s
    assert 0.0 <= WallClock().now() < 5.0


def test_clocks_of_one_epoch_agree_between_processes() -> None:
    clock = WallClock()
    code = f"from offbeat.timing.wall import WallClock; print(WallClock({clock.epoch_s!r}).now())"
    before_s = clock.now()
    other_s = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout)
    assert before_s < other_s < clock.now()


def test_a_sleep_ends_at_its_deadline_and_not_before() -> None:
    clock = WallClock()
    deadline_s = clock.now() + 0.02
    late_s = clock.sleep_until(deadline_s)
    assert late_s >= 0.0
    assert clock.now() >= deadline_s + late_s


def test_a_deadline_that_has_passed_is_late_at_once() -> None:
    clock = WallClock(epoch_s=time.monotonic() - 1.0)
    assert clock.sleep_until(0.25) >= 0.75


def test_every_sleep_looks_after_the_workers() -> None:
    checks: list[float] = []
    clock = WallClock(check=lambda: checks.append(clock.now()))
    clock.sleep_until(-1.0)
    assert len(checks) == 1
    deadline_s = clock.now() + 3.5 * CHECK_S
    clock.sleep_until(deadline_s)
    assert len(checks) >= 3  # fewer than the five of a machine at rest only where sleeps end late
    assert max(checks) < deadline_s


def test_what_the_check_raises_ends_a_long_sleep() -> None:
    def fail() -> None:
        if clock.now() > 0.06:
            raise RuntimeError("the sampler has died")

    clock = WallClock(check=fail)
    with pytest.raises(RuntimeError, match="the sampler has died"):
        clock.sleep_until(60.0)
    assert clock.now() < 30.0


def test_a_stage_costs_what_it_took_and_one_that_raises_is_not_recorded() -> None:
    events: list[tuple[Stage, float, float]] = []
    clock = WallClock(on_stage=lambda *event: events.append(event))
    before_s = clock.now()
    with clock.stage(Stage.ACT):
        time.sleep(0.01)
    with pytest.raises(KeyError), clock.stage(Stage.STORE):
        raise KeyError
    ((stage, begin_s, end_s),) = events
    assert stage is Stage.ACT
    assert before_s <= begin_s and end_s - begin_s >= 0.01 and end_s <= clock.now()


def test_a_pause_is_passed_on() -> None:
    told: list[bool] = []
    clock = WallClock(on_pause=told.append)
    assert not clock.paused
    clock.paused = True
    assert clock.paused and told == [True]


def test_a_grid_keeps_its_deadlines_on_the_wall_clock() -> None:
    clock = WallClock()
    grid = CycleGrid(0.01)
    start_s = clock.now()
    grid.start(start_s)
    deadlines_s = [grid.wait(clock)[0] for _ in range(5)]
    assert deadlines_s[0] == start_s + 0.01
    assert clock.now() >= deadlines_s[-1]
