"""Worker processes: what goes wrong in one is told with its cause, the robot is stopped first, and none is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import fake_jobs
import pytest

from offbeat.errors import WorkerError
from offbeat.schedules.processes import BuildJob, Supervisor
from offbeat.schedules.shared import Board
from offbeat.signals import StopSignals

PATIENCE_S = 20.0
Start = Callable[..., Supervisor]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a supervisor over jobs, ready or not, and closes it after the test."""
    opened: list[Supervisor] = []

    def start(jobs: Mapping[str, BuildJob], on_failure: Callable[[], object] = lambda: None) -> Supervisor:
        opened.append(Supervisor(Board(len(jobs)), time.monotonic(), jobs, on_failure))
        opened[-1].start()
        return opened[-1]

    yield start
    for supervisor in opened:
        supervisor.close()


def check_nothing() -> None:
    """A check of the caller's that finds nothing."""


def wait_until(condition: Callable[[], object]) -> None:
    patience_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < patience_s, "waited too long"
        time.sleep(0.01)


def test_workers_work_until_they_are_asked_to_end(start: Start) -> None:
    board = Board(2)
    supervisor = Supervisor(board, time.monotonic(), {"one": fake_jobs.idle, "two": fake_jobs.ticking}, check_nothing)
    supervisor.start()
    supervisor.wait_ready(check_nothing)
    wait_until(lambda: board.samples >= 3)
    processes = list(supervisor.processes.values())
    pids = [process.pid for process in processes]
    supervisor.check()
    supervisor.close()
    supervisor.close()  # the second time nothing happens
    supervisor.check()  # an end that was asked for is no failure
    assert not any(child.pid in pids for child in multiprocessing.active_children())


def test_a_worker_that_raises_is_told_with_its_own_traceback(start: Start) -> None:
    stopped: list[float] = []
    supervisor = start(
        {"sampling": fake_jobs.failing, "updating": fake_jobs.idle}, lambda: stopped.append(time.monotonic())
    )
    failure = supervisor.failure(PATIENCE_S)
    assert failure is not None
    assert str(failure) == "The sampling process ended with exit code 1. Start it again."
    assert 'raise ValueError("broken on purpose")' in failure.trace
    assert len(stopped) == 1
    with pytest.raises(WorkerError, match="sampling process"):
        supervisor.check()


def test_a_job_that_cannot_be_built_is_no_endless_wait(start: Start) -> None:
    supervisor = start({"updating": fake_jobs.unbuildable})
    with pytest.raises(WorkerError, match="updating process ended with exit code 1") as caught:
        supervisor.wait_ready(check_nothing, PATIENCE_S)
    assert "OSError: no such device" in caught.value.trace


def test_waiting_for_workers_can_be_broken_off(start: Start) -> None:
    supervisor = start({"sampling": fake_jobs.idle})

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervisor.wait_ready(interrupt)
    with pytest.raises(WorkerError, match="Not started within 0 s: sampling"):
        supervisor.wait_ready(check_nothing, timeout_s=0.0)


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "gave no sign of life for [01].[0-9] s")],
)
def test_a_killed_and_a_stopped_worker_are_noticed(number: signal.Signals, told: str, start: Start) -> None:
    stopped: list[bool] = []
    supervisor = start({"one": fake_jobs.ticking, "two": fake_jobs.ticking}, lambda: stopped.append(True))
    supervisor.remedy = "Do that."
    supervisor.wait_ready(check_nothing)
    pid = supervisor.processes["two"].pid
    assert pid is not None
    os.kill(pid, number)
    failure = supervisor.failure(PATIENCE_S)
    assert failure is not None
    with pytest.raises(WorkerError, match=f"^The two process {told}. Do that.$"):
        raise failure
    assert stopped == [True]
    supervisor.close()
    assert not any(child.pid == pid for child in multiprocessing.active_children())


def test_a_robot_that_cannot_be_stopped_does_not_hide_the_failure(start: Start) -> None:
    def stop() -> None:
        raise RuntimeError("no robot")

    failure = start({"sampling": fake_jobs.failing}, stop).failure(PATIENCE_S)
    assert "sampling process" in str(failure)


def test_checkpoints_are_written_when_asked_for(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "count"
    supervisor = start({"sampling": fake_jobs.ticking, "updating": partial(fake_jobs.saving, path)})
    supervisor.wait_ready(check_nothing)
    assert not path.exists()
    assert supervisor.save(PATIENCE_S)
    assert path.read_text() == "1"
    supervisor.request_save()
    assert supervisor.save(PATIENCE_S)
    assert path.read_text() in ("2", "3")  # two requests close to each other may be one


def test_no_checkpoint_is_waited_for_when_the_worker_has_died(start: Start) -> None:
    supervisor = start({"updating": fake_jobs.failing})
    supervisor.failure(PATIENCE_S)
    assert not supervisor.save(PATIENCE_S)


@dataclass
class Ended:
    """A process of an arm that says nothing. Implements Watched."""

    process: BaseProcess

    def beats(self) -> float:
        return 0.0

    def last_words(self) -> tuple[str, str]:
        return "", ""


def test_a_checkpoint_is_waited_for_when_an_arm_has_ended(start: Start, tmp_path: Path) -> None:
    supervisor = start({"updating": partial(fake_jobs.saving, tmp_path / "count")})
    supervisor.wait_ready(check_nothing)
    arm = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.0,))
    arm.start()
    supervisor.watch("robot", Ended(arm))
    assert "robot process ended" in str(supervisor.failure(PATIENCE_S))
    assert supervisor.save(PATIENCE_S)


PARENT = """
import signal, sys, time
import fake_jobs
from offbeat.schedules.processes import Supervisor
from offbeat.schedules.shared import Board
if __name__ == "__main__":
    jobs = {"one": fake_jobs.ticking, "two": fake_jobs.idle}
    supervisor = Supervisor(Board(2), time.monotonic(), jobs, lambda: None)
    supervisor.start()
    supervisor.wait_ready(lambda: None)
    print(*(process.pid for process in supervisor.processes.values()), flush=True)
    END
"""


@pytest.mark.parametrize("end", ["time.sleep(60)", "raise SystemExit(0)"], ids=["killed", "ended without close"])
def test_workers_do_not_outlive_their_parent(end: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.replace("END", end))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    if "sleep" in end:
        parent.kill()
    parent.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_signals_wait_for_the_check() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as signals:
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            signals.check()
        assert caught.value.code == 143
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signals.check()
        signals.check()
        assert signal.getsignal(signal.SIGINT) is before[0]  # the second one would not wait
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
