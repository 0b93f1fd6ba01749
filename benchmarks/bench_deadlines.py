"""How late a 40 ms cycle ends beside a learner that never rests, ours against a plain `time.sleep` loop.

    python benchmarks/bench_deadlines.py [--minutes 10] [--realtime] [--json benchmarks/out/deadlines.json]

ours: the interaction sleeps to absolute deadlines on the wall clock, spins through the last half millisecond, has the
shortest time slices and collects garbage between episodes only; the learner has a process of its own, which stands
back (nice 5).
plain: one process sleeps for what is left of each cycle; the learner is a thread in it. Its deadline is counted from
the end of its own last cycle, so it is forgiven all drift, which is reported beside it.

Both choose an action with the cpu scale's policy each cycle, and the learner makes the cpu scale's updates on random
batches. "loaded" adds cyclic garbage in every cycle, and a process that writes to the disk without pause. The two take
turns of a minute, so that a busy machine disturbs both alike; ratios of lateness come first.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offbeat.build import build_batch, build_learner
from offbeat.config import RunConfig, make_config
from offbeat.machine import usable_cores
from offbeat.timing.clock import CycleGrid, is_missed
from offbeat.timing.realtime import collect_between_episodes, take_short_slices, try_realtime
from offbeat.timing.summary import percentiles
from offbeat.timing.wall import WallClock
from offbeat.types import Observation

CYCLE_S, EPISODE_CYCLES, TURN_S, START_S = 0.04, 150, 60.0, 120.0
GARBAGE = 200  # little cycles of objects made in each loaded cycle
PROCESSES = multiprocessing.get_context("spawn")


def make_learner(config: RunConfig) -> Callable[[], object]:
    """One update of the cpu-scale learner on random batches."""
    learner, batch, rng = build_learner(config, threads=1), build_batch(config), np.random.default_rng(0)
    batch.frames[:] = rng.integers(0, 256, batch.frames.shape, dtype=np.uint8)
    batch.action[:] = rng.uniform(-1, 1, batch.action.shape)
    return lambda: learner.update(batch)


def make_act(config: RunConfig) -> Callable[[], object]:
    """One action of the cpu-scale policy on a random observation."""
    from offbeat.sac.policy import Policy

    # One thread each way, as a run does: a second one waits for a core that the learner has, tens of milliseconds long.
    torch.set_num_threads(1)
    policy = Policy(config.sac, config.env, seed=0)
    shape = (config.env.height, config.env.width, 3 * config.env.stack)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    observation = Observation(image=image, proprioception=np.zeros(config.env.proprioception, np.float32))
    return lambda: policy.act(observation)


def make_garbage() -> None:
    """Objects that hold each other, which only the cyclic collector frees."""
    for _ in range(GARBAGE):
        one: list[Any] = []
        one.append([one])


def wanted(stop: Any) -> bool:
    """Whether to go on: nobody said stop, and whoever would has not died."""
    parent = multiprocessing.parent_process()
    return not stop.is_set() and (parent is None or parent.is_alive())


def learn(stop: Any, count: Any) -> None:
    """Update until told to stop. count: .value is the updates made."""
    update = make_learner(make_config(scale="cpu"))
    while wanted(stop):
        update()
        count.value += 1


def learn_beside(stop: Event, count: Any) -> None:
    """The learner's process."""
    os.nice(5)
    learn(stop, count)


def write_to_disk(stop: Event) -> None:
    """Write 32 MB to a file without pause, each time down to the disk."""
    with tempfile.TemporaryFile(dir=Path(__file__).parent) as file:
        block = os.urandom(1 << 20)
        while wanted(stop):
            file.seek(0)
            for _ in range(32):
                file.write(block)
            os.fsync(file.fileno())


@contextmanager
def beside(target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run `target(stop, *arguments)` in a process for the length of the block."""
    stop = PROCESSES.Event()
    process = PROCESSES.Process(target=target, args=(stop, *arguments), daemon=True)
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(20.0)
        if process.is_alive():
            process.kill()
            process.join()


def run_ours(seconds: float, loaded: bool, realtime: bool) -> dict[str, Any]:
    """Lateness (s) and missed deadlines of our loop over `seconds`, and the learner's updates meanwhile."""
    count, act, late_s, missed = PROCESSES.Value("q", 0), make_act(make_config(scale="cpu")), [], 0
    with beside(learn_beside, count), collect_between_episodes() as collect:
        wait_for_learner(count)
        take_short_slices()
        granted = {attempt.name: attempt.found for attempt in try_realtime()} if realtime else {}
        clock, grid, before = WallClock(), CycleGrid(CYCLE_S), count.value
        while clock.now() < seconds:
            collect()
            grid.start(clock.now())
            for _ in range(EPISODE_CYCLES):
                act()
                if loaded:
                    make_garbage()
                wake = grid.wait(clock)
                late_s.append(wake.lateness_s)
                missed += wake.missed
        updates = count.value - before
    return {"late_s": late_s, "missed": missed, "updates": updates, "drift_s": 0.0, "realtime": granted}


def run_plain(seconds: float, loaded: bool, realtime: bool) -> dict[str, Any]:
    """The same of a `time.sleep` loop with a learner thread; drift_s: how far it fell behind absolute deadlines."""
    count, act, late_s, missed = PROCESSES.Value("q", 0), make_act(make_config(scale="cpu")), [], 0
    stop = threading.Event()
    thread = threading.Thread(target=learn, args=(stop, count), daemon=True)
    thread.start()
    wait_for_learner(count)
    start_s, before = time.monotonic(), count.value
    begin_s = start_s
    while begin_s - start_s < seconds:
        act()
        if loaded:
            make_garbage()
        slack_s = begin_s + CYCLE_S - time.monotonic()
        time.sleep(max(0.0, slack_s))
        end_s = time.monotonic()
        late_s.append(end_s - begin_s - CYCLE_S)
        missed += is_missed(slack_s, late_s[-1])
        begin_s = end_s
    updates = count.value - before
    stop.set()
    thread.join(20.0)
    drift_s = begin_s - start_s - len(late_s) * CYCLE_S
    return {"late_s": late_s, "missed": missed, "updates": updates, "drift_s": drift_s, "realtime": {}}


def wait_for_learner(count: Any) -> None:
    """Let the learner make its first updates. Raises: TimeoutError."""
    limit_s = time.monotonic() + START_S
    while count.value < 5:
        if time.monotonic() > limit_s:
            raise TimeoutError(f"The learner made no update in {START_S:g} s: free this machine of other work.")
        time.sleep(0.05)


WAYS = {"ours": run_ours, "plain": run_plain}


def take_turn(pipe: Connection, way: str, seconds: float, loaded: bool, realtime: bool) -> None:
    """One turn in a process of its own; sends what it measured."""
    gc.enable()
    pipe.send(WAYS[way](seconds, loaded, realtime))


def turn(way: str, seconds: float, loaded: bool, realtime: bool) -> dict[str, Any]:
    """Have one turn taken. Raises: RuntimeError when its process gave no answer."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=take_turn, args=(theirs, way, seconds, loaded, realtime))
    with beside(write_to_disk) if loaded else nullcontext():
        process.start()
        theirs.close()
        try:
            if not ours.poll(seconds + 2 * START_S):
                raise RuntimeError(f"A turn of {way} gave no answer in time.")
            return ours.recv()
        finally:
            process.join(30.0)
            if process.is_alive():
                process.kill()
                process.join()


def measure(case: str, minutes: float, realtime: bool) -> dict[str, Any]:
    """Both ways in turns. case: "quiet" or "loaded"; minutes: for each way."""
    rounds = max(1, round(60 * minutes / TURN_S))
    turns: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, own in turns.items():
            own.append(turn(way, 60 * minutes / rounds, case == "loaded", realtime))
    return {way: summarise(own) for way, own in turns.items()}


def summarise(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Percentiles of lateness (ms), misses and updates over all turns."""
    late_s = np.concatenate([one["late_s"] for one in turns])
    total = {name: sum(one[name] for one in turns) for name in ("missed", "updates", "drift_s")}
    per_minute = 60 / (len(late_s) * CYCLE_S + total["drift_s"])
    return {
        "late_ms": percentiles(1e3 * late_s),
        "cycles": len(late_s),
        "missed": total["missed"],
        "updates_per_s": total["updates"] * per_minute / 60,
        "drift_ms_per_minute": 1e3 * total["drift_s"] * per_minute,
        "realtime": turns[0]["realtime"],
    }


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """Ratios first, then both ways."""
    for case, ways in rows.items():
        ours, plain = ways["ours"]["late_ms"], ways["plain"]["late_ms"]
        ratios = ", ".join(f"{plain[name] / ours[name]:,.1f}x at {name}" for name in ours)
        print(f"{case}: plain is later by {ratios}")
        for way, row in ways.items():
            late = "  ".join(f"{name} {value:9.4f}" for name, value in row["late_ms"].items())
            print(
                f"  {way:5}  late (ms) {late}   missed {row['missed']} of {row['cycles']}   "
                f"{row['updates_per_s']:.1f} updates/s   drift {row['drift_ms_per_minute']:.1f} ms a minute"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="time of each way in each case")
    parser.add_argument("--realtime", action="store_true", help="ask for priority, a core and locked memory")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "out" / "deadlines.json")
    arguments = parser.parse_args()
    rows = {case: measure(case, arguments.minutes, arguments.realtime) for case in ("quiet", "loaded")}
    print_table(rows)
    machine = {"processor": platform.machine(), "cores": usable_cores(), "system": platform.release()}
    result = {"machine": machine, "cycle_s": CYCLE_S, "minutes": arguments.minutes, "cases": rows}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
