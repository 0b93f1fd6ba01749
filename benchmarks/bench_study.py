"""Robot hours an hour of a study on all cores, against the same runs one at a time.

    python benchmarks/bench_study.py [--minutes 1.5] [--rounds 2]

The study is runs of the asynchronous setting at the cpu scale, one core each, starting of processes and their
libraries included. The floor is what every core would make if each were alone: cores times the rate of one at a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import common

from offbeat.config import make_config
from offbeat.machine import usable_cores
from offbeat.studies.plan import Study, StudySetting
from offbeat.studies.runner import run_study

BUSY_GOAL = 0.9  # share of the time that a study keeps every core busy


def run(runs: int, jobs: int, minutes: float) -> dict[str, Any]:
    """Carry out a study of so many runs, so many at a time."""
    config = make_config("async-base", "cpu", minutes=minutes, warmup_s=20.0)
    study = Study("bench", "How fast is a study?", (StudySetting("async-base", config),), tuple(range(runs)))
    with tempfile.TemporaryDirectory(dir=common.OUT) as directory:
        used, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        outcome = run_study(study, Path(directory), jobs)
        wall_s, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert not outcome.failed, outcome.failed
        summaries = [json.loads(path.read_text()) for path in Path(directory).rglob("summary.json")]
    cpu_s = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {
        "runs": runs,
        "jobs": jobs,
        "wall_s": wall_s,
        "robot_s": sum(summary["robot_s"] for summary in summaries),
        "updates": sum(summary["updates"] for summary in summaries),
        "busy_share": cpu_s / wall_s / jobs,
    }


def main() -> None:
    """Run a study one run at a time and on all cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.5, help="training time of each run (minutes)")
    parser.add_argument("--rounds", type=int, default=2, help="runs a core")
    arguments = parser.parse_args()
    common.OUT.mkdir(exist_ok=True)
    cores = max(1, int(usable_cores()))
    alone, all_cores = (run(arguments.rounds * jobs, jobs, arguments.minutes) for jobs in (1, cores))
    rates = [row["robot_s"] / row["wall_s"] for row in (alone, all_cores)]
    floor = cores * rates[0]
    table = [
        {
            "runs at a time": str(row["jobs"]),
            "times one at a time": f"{rate / rates[0]:.2f}",
            "robot hours an hour": f"{rate:.1f}",
            "share of cores times one alone": f"{rate / rates[0] / row['jobs']:.0%}",
            "updates a second": f"{row['updates'] / row['wall_s']:.0f}",
            "cores busy": f"{row['busy_share']:.0%}",
        }
        for row, rate in zip((alone, all_cores), rates, strict=True)
    ]
    notes = [f"Runs of {arguments.minutes:g} minutes; goal: cores busy {BUSY_GOAL:.0%}."]
    common.save("study", table, {"alone": alone, "all_cores": all_cores, "floor_robot_h_per_h": floor}, notes)


if __name__ == "__main__":
    main()
