"""What the benchmarks share: the machine and its measured peaks, timing in turns, JSON files, the tables of README.md.

    python benchmarks/common.py

rebuilds the tables of benchmarks/README.md from benchmarks/out/*.json: what stands between a benchmark's two markers is
replaced, and sections of benchmarks that were not run keep their text.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offbeat.machine import usable_cores
from offbeat.sac.networks import Layout

HERE = Path(__file__).parent
OUT = HERE / "out"
README = HERE / "README.md"
Table = Sequence[Mapping[str, str]]
"""Rows of a table: the text of a cell by the name of its column."""

_GEMM = 1024  # edge of the square matrices whose product is the measured peak
_FAR_BYTES = 256 << 20  # more than caches hold


def describe_machine() -> dict[str, Any]:
    """What the times are of; the load tells whether it was quiet."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


@dataclass(frozen=True)
class Peaks:
    """What this machine does at its best, measured in this process on `threads` cores.

    flops: arithmetic in large matrix products (operations a second). copy_bytes_s: bytes of a plain copy between
    memory that no cache holds (B/s, each byte counted once).
    """

    threads: int
    flops: float
    copy_bytes_s: float

    def floor_s(self, flops: float, nbytes: float) -> float:
        """The least time (s) for so many operations on so many bytes: the slower of the two."""
        return max(flops / self.flops, nbytes / self.copy_bytes_s)


def measure_peaks(threads: int, dtype: torch.dtype = torch.float32, rounds: int = 9) -> Peaks:
    """The best of some rounds; torch is left with `threads` cores."""
    torch.set_num_threads(threads)
    a, b = (torch.rand(_GEMM, _GEMM).to(dtype) for _ in range(2))
    far = torch.ones(_FAR_BYTES, dtype=torch.uint8)
    near = torch.zeros_like(far)
    return Peaks(
        threads,
        2 * _GEMM**3 / min(repeat(lambda: a @ b, rounds)),
        _FAR_BYTES / min(repeat(lambda: near.copy_(far), rounds)),
    )


def encoder_flops(layout: Layout) -> list[float]:
    """Operations of each convolution of one stack, forwards."""
    height, width = layout.crop.cropped_height, layout.crop.cropped_width
    flops = []
    for (weight, _), stride in zip(layout.encoder, layout.config.strides, strict=True):
        height, width = (height - 3) // stride + 1, (width - 3) // stride + 1
        flops.append(2.0 * height * width * float(np.prod(weight)))
    return flops


def repeat(call: Callable[[], object], rounds: int, warm: int = 2) -> list[float]:
    """Seconds of each of `rounds` calls, after some that do not count."""
    return in_turns({"": call}, rounds, warm)[""]


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warm: int = 2) -> dict[str, list[float]]:
    """Seconds of each call of each way, taken in turns, so that a busy machine disturbs all alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm + rounds):
        for name, call in ways.items():
            begin = time.perf_counter()
            call()
            if turn >= warm:
                times[name].append(time.perf_counter() - begin)
    return times


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and 99th percentile in milliseconds."""
    low, median, high, highest = (1e3 * float(value) for value in np.percentile(seconds, (25, 50, 75, 99)))
    return {"median_ms": median, "q1_ms": low, "q3_ms": high, "p99_ms": highest}


def save(name: str, table: Table, numbers: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
    """Write benchmarks/out/<name>.json and print the table. notes: sentences that stand below it in README.md."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    result = {
        "command": command,
        "machine": describe_machine(),
        "table": list(table),
        "notes": list(notes),
        **numbers,
    }
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print("\n".join([*markdown(table), *notes]), flush=True)


def markdown(table: Table) -> list[str]:
    """The lines of a table."""
    columns = list(table[0])
    rows = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in table)]
    return [f"| {' | '.join(row)} |" for row in rows]


def render_readme(readme: Path = README, out: Path = OUT) -> list[str]:
    """Replace what stands between the markers of each benchmark that left a table; returns their names."""
    text, found = readme.read_text(encoding="utf-8"), []
    for path in sorted(out.glob("*.json")):
        result, name = json.loads(path.read_text(encoding="utf-8")), path.stem
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if not result.get("table") or begin not in text:
            continue
        machine = result["machine"]
        made_by = (
            f"`{result['command']}` on {machine['processor']}, {machine['cores']:g} cores, "
            f"{machine['gpu'] or 'no GPU'}, torch {machine['torch']}, load before it {machine['load_1min']:g}."
        )
        section = [begin, made_by, "", *markdown(result["table"]), "", *result["notes"], end]
        before, _, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        assert found_end, f"{readme} lacks {end}"
        text = before + "\n".join(section) + after
        found.append(name)
    readme.write_text(text, encoding="utf-8")
    return found


if __name__ == "__main__":
    print("Tables written to benchmarks/README.md:", ", ".join(render_readme()) or "none")
