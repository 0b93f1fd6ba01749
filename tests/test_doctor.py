"""Tests of the doctor: every verdict from values given by hand, and that nothing it tries can hurt it."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from offbeat import doctor, machine
from offbeat.config import make_config

GOOD_TORCH = {"version": "2.9.0", "cuda": None, "gpus": []}


@pytest.mark.parametrize(("cores", "verdict"), [(8, "good"), (4, "good"), (2, "ok"), (1.5, "missing"), (1, "missing")])
def test_cores_are_judged(cores: float, verdict: str) -> None:
    finding = doctor.check_cores(cores)
    assert finding.verdict == verdict
    assert f"{cores:g}" in finding.found


def test_replay_bytes_of_the_paper_are_the_published_ones() -> None:
    # 100,000 frames of 160x90x3 bytes are 4.32 GB, and each episode of 150 steps keeps one more frame.
    assert doctor.replay_bytes(make_config("async-base")) == pytest.approx(4.32e9 * 151 / 150)
    # 2,500 * 4,000 s / 200 s = 50,000 steps of 80 ms at 320x180x3, episodes of 75 steps.
    assert doctor.replay_bytes(make_config("sync-highres")) == pytest.approx(50_000 * 172_800 * 76 / 75)


@pytest.mark.parametrize(("free_gb", "verdict"), [(64, "good"), (16, "ok"), (4, "ok"), (0.5, "missing")])
def test_memory_is_judged_against_the_replays(free_gb: float, verdict: str) -> None:
    assert doctor.check_memory(free_gb * 1e9).verdict == verdict


def test_memory_names_the_scale_that_fits() -> None:
    assert "--scale cpu" in doctor.check_memory(4e9).advice
    assert "high resolution" in doctor.check_memory(16e9).advice


@pytest.mark.parametrize(("free_gb", "verdict"), [(100, "good"), (20, "ok"), (1, "missing")])
def test_disk_is_judged(free_gb: float, verdict: str) -> None:
    finding = doctor.check_disk(free_gb * 1e9, "/data")
    assert finding.verdict == verdict
    assert "/data" in finding.found


def test_absent_libraries_are_named_with_the_remedy() -> None:
    finding = doctor.check_libraries({"numpy": "2.0", "mujoco": None, "rich": None})
    assert finding.verdict == "missing"
    assert finding.advice == "pip install mujoco rich"
    assert doctor.check_libraries({"numpy": "2.0"}).verdict == "good"


def test_torch_that_does_not_load_says_why() -> None:
    finding = doctor.check_torch({"error": "ImportError: libgomp"})
    assert finding.verdict == "missing"
    assert "libgomp" in finding.found and finding.advice
    assert doctor.check_torch(GOOD_TORCH).found == "2.9.0 (CPU build)"
    assert doctor.check_torch(GOOD_TORCH | {"cuda": "12.8"}).found == "2.9.0 (CUDA 12.8 build)"


def test_gpu_tells_a_missing_card_from_a_wrong_build() -> None:
    assert doctor.check_gpu({"gpus": ["NVIDIA RTX 3090"]}, driver=True).found == "NVIDIA RTX 3090"
    assert "make setup" in doctor.check_gpu(GOOD_TORCH, driver=True).advice
    assert "Nothing is needed" in doctor.check_gpu(GOOD_TORCH, driver=False).advice
    assert doctor.check_gpu({"error": "broken"}, driver=False).verdict == "missing"


def test_opengl_tells_what_works_from_what_could() -> None:
    broken, working = {"error": "no EGL"}, {"version": "4.0.0"}
    assert doctor.check_opengl({"": working, "egl": broken}).verdict == "good"
    by_choice = doctor.check_opengl({"": broken, "egl": broken, "osmesa": working})
    assert by_choice.verdict == "ok"
    assert "MUJOCO_GL=osmesa" in by_choice.advice
    nothing = doctor.check_opengl({"": broken, "egl": broken})
    assert nothing.verdict == "missing"
    assert "rays" in nothing.advice


@pytest.mark.parametrize(
    ("flag", "kernel", "verdict"),
    [("1\n", "#1 SMP", "good"), ("", "#1 SMP PREEMPT_RT Debian", "good"), ("0\n", "#1 SMP PREEMPT_DYNAMIC", "missing")],
)
def test_realtime_kernel(flag: str, kernel: str, verdict: str) -> None:
    assert doctor.check_realtime_kernel(flag, kernel).verdict == verdict


@pytest.mark.parametrize(
    ("limit", "verdict"), [(99, "good"), (float("inf"), "good"), (0, "missing"), (None, "missing")]
)
def test_rtprio(limit: float | None, verdict: str) -> None:
    assert doctor.check_rtprio(limit).verdict == verdict


def test_wakeups_are_judged_by_their_99th_percentile() -> None:
    assert doctor.check_wakeups([1e-4] * 199 + [0.5]).verdict == "good"  # one outlier in 200 is above it
    assert doctor.check_wakeups([3e-3] * 200).verdict == "ok"
    late = doctor.check_wakeups([1e-4] * 190 + [0.02] * 10)
    assert (late.verdict, late.found) == ("missing", "99% of sleeps wake within 20.00 ms")


def test_small_shared_memory_says_what_docker_needs() -> None:
    assert "--shm-size" in doctor.check_shared_memory(64e6).advice
    assert doctor.check_shared_memory(8e9).verdict == "good"
    assert doctor.check_shared_memory(None).verdict == "missing"


def test_cameras_that_cannot_be_read_ask_for_the_group() -> None:
    assert doctor.check_cameras({"/dev/video0": True, "/dev/video1": False}).found == "/dev/video0"
    assert "group video" in doctor.check_cameras({"/dev/video0": False}).advice
    assert doctor.check_cameras({}).verdict == "missing"


def test_compiler_and_python() -> None:
    assert doctor.check_compiler("/usr/bin/g++").verdict == "good"
    assert doctor.check_compiler(None).verdict == "missing"
    assert doctor.check_python((3, 11, 7), "Linux").found == "3.11.7 on Linux"
    assert doctor.check_python((3, 12, 0), "Darwin").verdict == "ok"


def test_a_probe_returns_its_last_line() -> None:
    assert machine.probe_json("print('noise'); print('{\"a\": 1}')") == {"a": 1}
    assert machine.probe_json("import os; print('{\"gl\": \"' + os.environ['GL'] + '\"}')", {"GL": "x"}) == {"gl": "x"}


def test_a_crashing_probe_cannot_hurt() -> None:
    assert machine.probe_json("import os; os.abort()") == {"error": "exit code -6"}
    assert "no driver" in machine.probe_json("raise RuntimeError('no driver')")["error"]
    assert "0.2 s" in machine.probe_json("import time; time.sleep(60)", timeout_s=0.2)["error"]


def test_a_container_quota_limits_the_cores(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert machine.usable_cores(quota) == 0.5
    quota.write_text("max 100000\n")
    assert machine.usable_cores(quota) == machine.usable_cores(tmp_path / "absent") >= 1


def test_a_container_limit_counts_as_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    assert machine.free_memory(meminfo, tmp_path) == 4_000_000 * 1024
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    assert machine.free_memory(meminfo, tmp_path) == 2e9


def test_sleeps_are_measured() -> None:
    late_s = machine.measure_wakeups(samples=5, sleep_s=0.001)
    assert len(late_s) == 5
    assert all(late >= 0 for late in late_s)


def test_the_doctor_reports_every_finding_and_returns_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [doctor.check_cores(1), doctor.check_torch({"error": "[broken] build"})]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    text = io.StringIO()
    assert doctor.run_doctor(Console(file=text, width=200)) == 0
    for finding in findings:
        assert finding.found in text.getvalue()
        assert finding.advice in text.getvalue()


def test_examine_looks_at_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "probe_json", lambda code, environment=None: dict(GOOD_TORCH))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=100e9, total=100e9))
    findings = doctor.examine(tmp_path)
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names)) == 14
    assert all(finding.advice for finding in findings if finding.verdict != "good")
