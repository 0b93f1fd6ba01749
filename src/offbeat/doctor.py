"""What this machine can do for real-time learning, and what to do about what it lacks.

Each `check_*` function judges values it is handed and touches nothing, so every verdict can be tested anywhere;
`examine` reads the machine (`offbeat.machine`) and hands it to them.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from offbeat.config import RunConfig, make_config
from offbeat.machine import (
    GL_PROBE,
    TORCH_PROBE,
    free_memory,
    installed_version,
    measure_wakeups,
    probe_json,
    read_text,
    rtprio_limit,
    usable_cores,
)

Verdict = Literal["good", "ok", "missing"]

GB = 1e9
LIBRARIES = ("numpy", "mujoco", "gymnasium", "opencv-python-headless", "scipy", "matplotlib", "tyro", "rich")
GL_BACKENDS = ("egl", "osmesa", "glfw")
COLOURS: dict[Verdict, str] = {"good": "green", "ok": "cyan", "missing": "yellow"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was looked at, what was found, how that serves, and what to do about it."""

    name: str
    found: str
    verdict: Verdict
    advice: str = ""


def check_python(version: tuple[int, int, int], system: str) -> Finding:
    """Judge the interpreter. version: (major, minor, micro). system: as `platform.system()` says it."""
    found = f"{'.'.join(map(str, version))} on {system}"
    if system == "Linux":
        return Finding("Python", found, "good")
    return Finding("Python", found, "ok", "Simulation runs here; drive a real robot from Linux.")


def check_libraries(versions: Mapping[str, str | None]) -> Finding:
    """Judge the installed libraries. versions: None where a library is not installed."""
    absent = [name for name, version in versions.items() if version is None]
    if absent:
        return Finding("Libraries", f"no {', '.join(absent)}", "missing", f"pip install {' '.join(absent)}")
    return Finding("Libraries", ", ".join(f"{name} {version}" for name, version in versions.items()), "good")


def check_cores(cores: float) -> Finding:
    """Judge the processor cores this process may use (a container's quota can be a fraction)."""
    found = f"{cores:g} usable"
    if cores >= 4:
        return Finding("Cores", found, "good")
    if cores >= 2:
        return Finding(
            "Cores", found, "ok", "Enough for the demo; acting, sampling and updating in real time want four."
        )
    return Finding("Cores", found, "missing", "Runs take turns and the demo twice as long; use two cores or more.")


def replay_bytes(config: RunConfig) -> float:
    """Memory a run's replay takes (bytes): each image once, and one more each episode."""
    env = config.env
    return env.height * env.width * 3 * config.replay_steps * (1 + 1 / env.episode_steps)


def check_memory(available_bytes: float) -> Finding:
    """Judge free memory (bytes) against the replays of the cpu and the paper scale."""
    cpu, base, highres = (
        1.2 * replay_bytes(make_config(setting, scale=scale)) / GB
        for setting, scale in (("async-base", "cpu"), ("async-base", "paper"), ("async-highres", "paper"))
    )
    free = available_bytes / GB
    found = f"{free:.1f} GB free"
    if free >= highres:
        return Finding("Memory", found, "good")
    if free >= base:
        return Finding(
            "Memory", found, "ok", f"Paper scale fits at base resolution; high resolution needs {highres:.0f} GB."
        )
    if free >= 2 * cpu:
        return Finding(
            "Memory", found, "ok", f"Enough for --scale cpu; --scale paper needs {base:.0f} to {highres:.0f} GB."
        )
    return Finding("Memory", found, "missing", f"Free {2 * cpu:.1f} GB for the two runs of the demo.")


def check_disk(free_bytes: float, directory: str) -> Finding:
    """Judge free space (bytes) where runs are written, with their replays."""
    free = free_bytes / GB
    found = f"{free:.1f} GB free in {directory}"
    if free >= 50:
        return Finding("Disk", found, "good")
    if free >= 5:
        return Finding(
            "Disk",
            found,
            "ok",
            "A run keeps its replay on disk until it ends: 1 to 3 GB at the cpu scale, 20 GB at the paper's.",
        )
    return Finding("Disk", found, "missing", "Free 5 GB, or write runs elsewhere with --out.")


def check_torch(probe: Mapping[str, Any]) -> Finding:
    """Judge torch. probe: what `TORCH_PROBE` printed, or {"error": sentence}."""
    if "error" in probe:
        return Finding("torch", f"does not load: {probe['error']}", "missing", "Remove .venv and run make setup.")
    build = f"CUDA {probe['cuda']} build" if probe["cuda"] else "CPU build"
    return Finding("torch", f"{probe['version']} ({build})", "good")


def check_gpu(probe: Mapping[str, Any], driver: bool) -> Finding:
    """Judge the GPU. probe: as for `check_torch`. driver: whether the system has an NVIDIA driver."""
    gpus = probe.get("gpus", [])
    if gpus:
        return Finding("GPU", ", ".join(gpus), "good")
    if driver:
        return Finding("GPU", "NVIDIA driver, but torch cannot use it", "missing", "Remove .venv and run make setup.")
    return Finding(
        "GPU", "none", "missing", "Nothing is needed: --scale cpu learns on one core. --scale paper wants a GPU."
    )


def check_opengl(probes: Mapping[str, Mapping[str, Any]]) -> Finding:
    """Judge OpenGL. probes: for each value of MUJOCO_GL what `GL_PROBE` printed, or {"error": sentence}.

    The value "" stands for the environment as it is, which is what a run would use.
    """
    working = [backend for backend, probe in probes.items() if "error" not in probe]
    if "" in working:
        return Finding("OpenGL", "MuJoCo draws with it", "good")
    if working:
        found, advice = (
            f"only by choice: {', '.join(working)}",
            f"Rays draw the images until you set MUJOCO_GL={working[0]}.",
        )
        return Finding("OpenGL", found, "ok", advice)
    advice = "Nothing is needed: MuJoCo's rays draw the images. For OpenGL: apt install libegl1 (or libosmesa6)."
    return Finding("OpenGL", "none", "missing", advice)


def check_realtime_kernel(flag: str, kernel: str) -> Finding:
    """Judge the kernel. flag: text of /sys/kernel/realtime. kernel: as `uname -v` says it."""
    if flag.strip() == "1" or "PREEMPT_RT" in kernel:
        return Finding("Real-time kernel", "PREEMPT_RT", "good")
    return Finding(
        "Real-time kernel",
        "none",
        "missing",
        "Nothing is needed in simulation. An arm at 1 kHz wants PREEMPT_RT (Ubuntu: pro enable realtime-kernel).",
    )


def check_rtprio(limit: float | None) -> Finding:
    """Judge the highest real-time priority this user may ask for; None where the system has no such limit."""
    if limit is None:
        return Finding(
            "Real-time priority", "not offered by this system", "missing", "Only a real robot needs it: use Linux."
        )
    if limit >= 80:
        return Finding("Real-time priority", f"up to {min(limit, 99):g}", "good")
    return Finding(
        "Real-time priority",
        f"up to {limit:g}",
        "missing",
        "Only a real robot needs it: '@realtime - rtprio 99' in /etc/security/limits.conf, join it, log in again.",
    )


def check_wakeups(late_s: Sequence[float]) -> Finding:
    """Judge how late short sleeps woke (s): the part of every missed deadline that is the system's."""
    ordered = sorted(late_s)
    p99_ms = 1e3 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    found = f"99% of sleeps wake within {p99_ms:.2f} ms"
    if p99_ms <= 1:
        return Finding("Wake-ups", found, "good")
    if p99_ms <= 5:
        return Finding("Wake-ups", found, "ok", "Fine for cycles of 40 ms.")
    return Finding(
        "Wake-ups",
        found,
        "missing",
        "Under the wall clock deadlines will be missed: stop other work. Virtual time is exact.",
    )


def check_shared_memory(size_bytes: float | None) -> Finding:
    """Judge /dev/shm (bytes), where processes share images; None where there is none."""
    if size_bytes is None:
        return Finding("Shared memory", "no /dev/shm", "missing", "Nothing is needed in virtual time.")
    found = f"/dev/shm of {size_bytes / GB:.2f} GB"
    if size_bytes >= GB:
        return Finding("Shared memory", found, "good")
    return Finding("Shared memory", found, "missing", "Nothing is needed in virtual time. In Docker: --shm-size=8g.")


def check_cameras(devices: Mapping[str, bool]) -> Finding:
    """Judge the video devices. devices: path, and whether this user may read it."""
    readable = [path for path, allowed in devices.items() if allowed]
    if readable:
        return Finding("Cameras", ", ".join(readable), "good")
    if devices:
        return Finding(
            "Cameras", f"{', '.join(devices)}, not readable", "missing", "Join the group video and log in again."
        )
    return Finding("Cameras", "none", "missing", "Nothing is needed in simulation. A real robot wants a USB webcam.")


def check_compiler(compiler: str | None) -> Finding:
    """Judge the C++ compiler that torch.compile would call; None where there is none."""
    if compiler:
        return Finding("C++ compiler", compiler, "good")
    return Finding(
        "C++ compiler", "none", "missing", "Nothing is needed. torch.compile would want one: apt install g++."
    )


def examine(directory: Path = Path(".")) -> list[Finding]:
    """Look at this machine. directory: where runs would be written."""
    wakeups = measure_wakeups()  # before the probes, which keep the cores busy
    with ThreadPoolExecutor() as pool:
        torch = pool.submit(probe_json, TORCH_PROBE)
        drawing = {gl: pool.submit(probe_json, GL_PROBE, {"MUJOCO_GL": gl} if gl else {}) for gl in ("", *GL_BACKENDS)}
    shm = Path("/dev/shm")
    return [
        check_python(sys.version_info[:3], platform.system()),
        check_libraries({name: installed_version(name) for name in LIBRARIES}),
        check_cores(usable_cores()),
        check_memory(free_memory()),
        check_disk(shutil.disk_usage(directory).free, str(directory.resolve())),
        check_torch(torch.result()),
        check_gpu(torch.result(), driver=Path("/proc/driver/nvidia/gpus").exists()),
        check_opengl({gl: probe.result() for gl, probe in drawing.items()}),
        check_compiler(next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)),
        check_wakeups(wakeups),
        check_realtime_kernel(read_text(Path("/sys/kernel/realtime")), platform.version()),
        check_rtprio(rtprio_limit()),
        check_shared_memory(shutil.disk_usage(shm).total if shm.is_dir() else None),
        check_cameras({str(path): os.access(path, os.R_OK) for path in sorted(Path("/dev").glob("video*"))}),
    ]


def run_doctor(console: Console | None = None) -> int:
    """Print what this machine can do and what to do about what is missing. Returns: 0, whatever was found."""
    console = console or Console()
    with console.status("Looking at this machine"):
        findings = examine()
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(Text(finding.verdict, COLOURS[finding.verdict]), Text(finding.name, "bold"), Text(finding.found))
        if finding.advice:
            table.add_row("", "", Text(finding.advice, "dim"))
    console.print(table)
    return 0
