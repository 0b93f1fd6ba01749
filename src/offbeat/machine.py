"""What the operating system and the installed libraries say about this machine; read here, judged in `doctor`.

Whatever could crash an interpreter (a broken torch, an OpenGL driver) is tried in a process of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PROBE_TIMEOUT_S = 60.0

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h

TORCH_PROBE = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}))
"""
GL_PROBE = """
import json, mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='.1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 36, 64) as renderer:
    renderer.update_scene(data)
    renderer.render()
print(json.dumps({"version": mujoco.__version__}))
"""


def probe_json(
    code: str, environment: Mapping[str, str] | None = None, timeout_s: float = PROBE_TIMEOUT_S
) -> dict[str, Any]:
    """Run `code` in a new interpreter and return the JSON object on its last line, or {"error": last line}."""
    try:
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:g} s"}
    answer, complaint = result.stdout.strip().splitlines(), result.stderr.strip().splitlines()
    if result.returncode == 0 and answer:
        return dict(json.loads(answer[-1]))
    return {"error": complaint[-1] if complaint else f"exit code {result.returncode}"}


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Cores this process may use, a container's quota included."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    allowed, period = (*read_text(quota).split(), "", "")[:2]
    return min(cores, int(allowed) / int(period)) if allowed.isdigit() and period.isdigit() else cores


def free_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Memory that can still be taken (bytes), a container's limit included."""
    free = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for line in read_text(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            free = float(line.split()[1]) * 1024
    limit, used = read_text(cgroup / "memory.max").strip(), read_text(cgroup / "memory.current").strip()
    return min(free, float(limit) - float(used)) if limit.isdigit() and used.isdigit() else free


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next allocation, in this process; False where it cannot be told.

    An update allocates and frees the same large blocks again and again. By default glibc maps each anew, and the system
    fills its pages with zeros, which at 160x90 costs as much as a third of the update. glibc, mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    never, most, step = 0, 2**31 - 1, 64 << 20
    return all(
        mallopt(option, value) == 1
        for option, value in ((_M_MMAP_MAX, never), (_M_TRIM_THRESHOLD, most), (_M_TOP_PAD, step))
    )


def describe_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the last digits of a run depend on: the processor, its widest instructions, and the version of torch."""
    lines = (line.partition(":") for line in read_text(cpuinfo).splitlines())
    words = {name.strip(): value.strip() for name, _, value in lines}
    flags = words.get("flags", words.get("Features", "")).split()
    widest = next((flag for flag in ("avx512_bf16", "avx512f", "avx2", "bf16", "asimd") if flag in flags), "")
    name = " ".join(filter(None, (words.get("model name") or platform.machine(), widest)))
    return f"{name}, torch {installed_version('torch')}"


def measure_wakeups(samples: int = 200, sleep_s: float = 0.001) -> list[float]:
    """How late each of `samples` sleeps of `sleep_s` woke (s)."""
    late_s = []
    for _ in range(samples):
        deadline = time.perf_counter() + sleep_s
        time.sleep(sleep_s)
        late_s.append(time.perf_counter() - deadline)
    return late_s


def read_text(path: Path) -> str:
    """Text of a file of the system, or "" where it is absent or closed to this user."""
    try:
        return path.read_text()
    except OSError:
        return ""


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def rtprio_limit() -> float | None:
    """Highest real-time priority this user may ask for, or None where the system has no such limit."""
    try:
        import resource  # POSIX only
    except ImportError:
        return None
    if not hasattr(resource, "RLIMIT_RTPRIO"):
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    return float("inf") if hard == resource.RLIM_INFINITY else float(hard)
