"""Do the two clocks agree? One configuration on the wall clock, and in virtual time with this machine's own profile.

    OMP_NUM_THREADS=1 python benchmarks/bench_clocks.py [--minutes 1] [--json benchmarks/out/clocks.json]

What the stages cost here is measured first; the virtual clock then plays the run that this profile predicts, and the
wall clock runs it for real, processes and deadlines included. They should make the same steps, as many updates (within
10%), and answer as fast (medians within 3 ms): the profile knows nothing of reading the robot and the camera, of the
mask and of the safety filter, which the wall clock's response time includes.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from offbeat.config import RunConfig, Schedule, make_config
from offbeat.machine import usable_cores
from offbeat.measure import measure_profile
from offbeat.run import train

SCHEDULES: tuple[Schedule, ...] = ("asynchronous", "sequential", "reactive")
MAX_UPDATES_SHARE, MAX_RESPONSE_MS = 0.10, 3.0
WARMUP_S, RESET_S, MEASURED_CYCLES = 6.0, 1.0, 100


def configure(schedule: Schedule, minutes: float) -> RunConfig:
    """The cpu scale, learning after an episode, with resets that cost little of the benchmark's time."""
    config = make_config("async-base", "cpu", schedule=schedule, minutes=minutes, warmup_s=WARMUP_S)
    return replace(config, env=replace(config.env, fast_reset=True, reset_s=RESET_S))


def compare(schedule: Schedule, minutes: float, directory: Path) -> dict[str, Any]:
    """Both runs of a schedule: what they agree on, and whether they do."""
    config, file = configure(schedule, minutes), directory / "profile.json"
    profile = measure_profile(config, file, repeats=MEASURED_CYCLES)
    virtual = train(replace(config, profile=str(file)), directory / "virtual")
    wall = train(replace(config, clock="wall"), directory / "wall")
    both = {"virtual": virtual, "wall": wall}
    updates = {clock: summary["updates"] for clock, summary in both.items()}
    response_ms = {clock: summary["response_ms"]["p50"] for clock, summary in both.items()}
    result = {
        "updates_ratio": updates["wall"] / updates["virtual"],
        "response_difference_ms": response_ms["wall"] - response_ms["virtual"],
        "steps": {clock: summary["steps"] for clock, summary in both.items()},
        "updates": updates,
        "response_ms_p50": response_ms,
        "missed_deadlines": {clock: summary["missed_deadlines"] for clock, summary in both.items()},
        "profile_ms": {stage.value: cost.mean_s * 1e3 for stage, cost in profile.stages.items()},
        "wall_ms": {stage: cost["mean_ms"] for stage, cost in wall["timing"]["stages"].items()},
    }
    return result | {"agree": agree(result)}


def agree(result: dict[str, Any]) -> dict[str, bool]:
    """What of a comparison is within its limits."""
    return {
        "steps": result["steps"]["wall"] == result["steps"]["virtual"],
        "updates": abs(result["updates_ratio"] - 1) <= MAX_UPDATES_SHARE,
        "response": abs(result["response_difference_ms"]) <= MAX_RESPONSE_MS,
    }


def lines(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table: ratios first."""
    yield (
        f"{'schedule':<13} {'updates wall/virtual':>20} {'response wall-virtual':>21} {'steps':>12} {'updates':>12} "
        f"{'response ms':>14} {'missed':>8}  agree"
    )
    for schedule, r in results.items():
        steps, updates, response, missed = (
            r[name] for name in ("steps", "updates", "response_ms_p50", "missed_deadlines")
        )
        yield (
            f"{schedule:<13} {r['updates_ratio']:>20.3f} {r['response_difference_ms']:>18.2f} ms "
            f"{steps['wall']:>5} / {steps['virtual']:<4} {updates['wall']:>5} / {updates['virtual']:<4} "
            f"{response['wall']:>6.2f} / {response['virtual']:<5.2f} {missed['wall']:>3} / {missed['virtual']:<3} "
            f" {'yes' if all(r['agree'].values()) else 'NO'}"
        )


def main() -> None:
    """Compare, print the table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="episode time of each run (minutes)")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "out" / "clocks.json")
    arguments = parser.parse_args()
    results = {}
    for schedule in SCHEDULES:
        with tempfile.TemporaryDirectory() as directory:
            results[schedule] = compare(schedule, arguments.minutes, Path(directory))
    machine = f"{usable_cores():g} cores, {platform.machine()}, {platform.system()} {platform.release()}"
    print(f"Wall / virtual, {arguments.minutes:g} minutes of the cpu scale on {machine}")
    print("\n".join(lines(results)))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps({"machine": machine, "minutes": arguments.minutes, **results}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
