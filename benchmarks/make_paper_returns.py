"""Makes src/offbeat/report/data/paper_returns.csv out of the study's public per-episode returns.

    python benchmarks/make_paper_returns.py RETURNS_CSV

RETURNS_CSV has the columns setting, seed, episode, steps, return: 4 settings x 25 seeds x 720 episodes, the file that
`offbeat report` also takes. Each row that is written is ten episodes (one minute of training): the mean over runs of a
run's mean, and the ends of its 95% interval, as every interval of a report is made.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from offbeat.report.paper import curve_points, read_paper

OUT = Path(__file__).parents[1] / "src/offbeat/report/data/paper_returns.csv"


def main(source: Path, out: Path = OUT) -> None:
    """Read `source`, write the summary to `out`."""
    records = read_paper(source)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["setting", "minutes", "mean", "low95", "high95"])
        for results in records.results:
            for point in curve_points(results):
                writer.writerow([results.name, *(f"{value:.2f}" for value in point)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
