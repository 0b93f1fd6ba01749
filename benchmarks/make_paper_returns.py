"""Makes src/offbeat/report/data/paper_returns.csv out of the study's public per-episode returns.

    python benchmarks/make_paper_returns.py RETURNS_CSV

RETURNS_CSV has the columns setting, seed, episode, steps, return: 4 settings x 25 seeds x 720 episodes. Each row
that is written is ten episodes (one minute of training): the mean over 25 runs of a run's mean, and the half width
of its 95% confidence interval (Student's t, 24 degrees of freedom).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from scipy import stats

EPISODES = 10
EPISODE_S = 6.0
OUT = Path(__file__).parents[1] / "src/offbeat/report/data/paper_returns.csv"
NAMES = {
    "async_base": "async-base",
    "async_highres": "async-highres",
    "sync_base": "sync-base",
    "sync_highres": "sync-highres",
}


def main(source: Path) -> None:
    """Read `source`, write the summary beside the report."""
    returns: dict[str, dict[int, list[float]]] = {}
    with source.open(newline="") as file:
        for row in csv.DictReader(file):
            returns.setdefault(row["setting"], {}).setdefault(int(row["seed"]), []).append(float(row["return"]))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["setting", "minutes", "mean", "ci95"])
        for setting, runs in sorted(returns.items()):
            table = np.array([runs[seed] for seed in sorted(runs)])
            blocks = table.reshape(len(table), -1, EPISODES).mean(axis=2)
            half = stats.t.ppf(0.975, len(blocks) - 1) * blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
            minutes = (np.arange(blocks.shape[1]) + 0.5) * EPISODES * EPISODE_S / 60
            for values in zip(minutes, blocks.mean(axis=0), half, strict=True):
                writer.writerow([NAMES[setting], *(f"{value:.2f}" for value in values)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
