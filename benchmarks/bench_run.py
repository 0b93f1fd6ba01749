"""Where a virtual run's time goes: the share of torch and MuJoCo, and robot time against wall time on one core.

    OMP_NUM_THREADS=1 python benchmarks/bench_run.py --minutes 3

A run of the cpu scale is played with the calls into each part timed from outside. "Outside" is everything that is
neither torch nor MuJoCo: our own Python and numpy, OpenCV's mask, records and checkpoints.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import torch

from offbeat.config import make_config
from offbeat.replay import FrameReplay
from offbeat.robots.render import RayRenderer
from offbeat.run import train
from offbeat.sac.learner import Learner
from offbeat.sac.policy import Policy
from offbeat.safety import VelocityFilter
from offbeat.tasks.visual_reacher import VisualReacher

OUT = Path(__file__).parent / "out"


class Meter:
    """Adds up the time (s) inside wrapped calls, by part; a call inside another counts for the inner part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time every call of `owner.name` as `part` from now on."""
        call: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begin = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.perf_counter() - begin
                inner = self._inner.pop()
                self.seconds[part] = self.seconds.get(part, 0.0) + took - inner
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, name, timed)


def measure(setting: str, minutes: float) -> dict[str, Any]:
    """Play one run and say where its time went."""
    meter = Meter()
    for name in ("update", "__init__"):
        meter.wrap(Learner, name, "torch: learner")
    for name in ("act", "load_weights"):
        meter.wrap(Policy, name, "torch: policy")
    meter.wrap(mujoco, "mj_step", "MuJoCo: physics")
    for name in ("mj_multiRay", "mj_kinematics", "mj_camlight"):
        meter.wrap(mujoco, name, "MuJoCo: rays")
    meter.wrap(RayRenderer, "render", "outside: shading")
    meter.wrap(VisualReacher, "share", "outside: mask")
    meter.wrap(VelocityFilter, "filter", "outside: safety filter")
    for name in ("add", "sample", "begin_episode"):
        meter.wrap(FrameReplay, name, "outside: replay")
    config = make_config(setting, "cpu", minutes=minutes)
    with tempfile.TemporaryDirectory() as directory:
        begin = time.perf_counter()
        summary = train(config, Path(directory) / "run")
        wall_s = time.perf_counter() - begin
    parts = dict(sorted(meter.seconds.items(), key=lambda item: -item[1]))
    parts["outside: the rest"] = wall_s - sum(parts.values())
    outside = sum(seconds for part, seconds in parts.items() if part.startswith("outside"))
    return {
        "setting": setting,
        "outside_share": outside / wall_s,
        "robot_s_per_wall_s": summary["robot_s"] / wall_s,
        "training_s_per_wall_s": 60 * minutes / wall_s,
        "updates": summary["updates"],
        "wall_s": wall_s,
        "parts_s": parts,
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="training time of the run (minutes)")
    parser.add_argument("--setting", default="async-base")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments.setting, arguments.minutes) | {"machine": platform.processor() or platform.machine()}
    print(f"outside torch and MuJoCo: {result['outside_share']:.1%} of {result['wall_s']:.1f} s (goal: at most 10%)")
    print(
        f"robot seconds per wall second: {result['robot_s_per_wall_s']:.1f} with resets, "
        f"{result['training_s_per_wall_s']:.1f} of training time (goal: above 1)"
    )
    for part, seconds in result["parts_s"].items():
        print(f"  {part:24} {seconds:8.2f} s  {seconds / result['wall_s']:6.1%}")
    OUT.mkdir(exist_ok=True)
    (OUT / "bench_run.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
