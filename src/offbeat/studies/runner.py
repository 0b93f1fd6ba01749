"""Carries out a study: which run is next, and where it runs.

The runs are ordinary run directories, each written by one process at a time, so a study goes on from whatever state
it was left in, and what it writes does not depend on how often it was stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Protocol

from offbeat.signals import end_processes
from offbeat.studies.archive import pack
from offbeat.studies.directory import copy_runs, find_finished, open_study, sole_study
from offbeat.studies.plan import Study, StudyRun, check_study
from offbeat.studies.watch import Event, Watch, workload

_POLL_S = 1.0  # between two looks at the records; a run that ends is seen at once
_STOP_S = 40.0  # a run on the wall clock stops its robot and writes a checkpoint first
_ONE_CORE = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@dataclass(frozen=True)
class Outcome:
    """How a study ended. failed: why which run failed; the others have finished."""

    finished: tuple[StudyRun, ...]
    failed: Mapping[StudyRun, str]


class Workplace(Protocol):
    """Where runs are carried out: processes of this machine, or a cluster."""

    jobs: int
    """Runs at a time."""

    def start(self, run: StudyRun) -> None:
        """Begin a run or go on with it."""
        ...

    def wait(self, timeout_s: float) -> list[tuple[StudyRun, str | None]]:
        """The runs that ended, and why those that failed did; returns at once when one ends, else after a while."""
        ...

    def progress(self) -> Mapping[StudyRun, tuple[int, float | None]] | None:
        """Episodes and mean return of the running runs; None where their records grow in the study's directory."""
        ...

    def stop(self) -> None:
        """End all runs that are under way, as Ctrl-C would."""
        ...


def run_study(
    study: Study,
    out: Path | str,
    jobs: int,
    show: Callable[[Event], None] | None = None,
    *,
    reuse: Sequence[Path] = (),
    archive: Path | None = None,
    workplace: Callable[[], Workplace] | None = None,
) -> Outcome:
    """Carry out a study in the directory `out`, or go on with it.

    jobs: runs at a time, each a process with one core. show: is told about once a second how the study stands.
    reuse: directories whose finished runs are copied where they are the same. archive: where the numbers of finished
    runs are kept; those that are there already are not run again. workplace: makes what carries the runs out, instead
    of processes here.
    A run that fails does not stop the others. Raises: ConfigError, ProfileError, RunError before anything runs.
    """
    out = Path(out)
    check_study(study)
    with sole_study(out):
        reused = find_finished(reuse)  # refuses before anything is written
        study = open_study(study, out, archive)
        known = find_finished([archive] if archive is not None and archive.exists() else [])
        copied = copy_runs(study.runs(), out, known | reused)
        place = workplace() if workplace is not None else Processes(out, jobs)
        keep = partial(pack, study, out, archive) if archive is not None else None
        return run_all(study.runs(), out, place, show, copied, keep)


def run_all(
    runs: Sequence[StudyRun],
    out: Path,
    workplace: Workplace,
    show: Callable[[Event], None] | None = None,
    copied: Iterable[StudyRun] = (),
    keep: Callable[[], object] | None = None,
) -> Outcome:
    """Carry out runs below the directory `out` until all have ended; those that have finished there are left alone.

    copied: those of them that were not run here. keep: called at first and whenever runs have ended, to keep their
    numbers. Other arguments as in `run_study`.
    """
    watch, under_way = Watch(runs, out, copied), 0
    waiting = deque(longest_first(watch.waiting()))
    show = show or (lambda event: None)
    keep = keep or (lambda: None)
    keep()
    show(watch.look(workplace.jobs, workplace.progress()))
    try:
        while waiting or under_way:
            while waiting and under_way < workplace.jobs:
                run = waiting.popleft()
                workplace.start(run)
                watch.started(run)
                under_way += 1
            ended = workplace.wait(_POLL_S)
            for run, reason in ended:
                watch.ended(run, reason)
                under_way -= 1
            if ended:
                keep()
            show(watch.look(workplace.jobs, workplace.progress()))
    finally:
        workplace.stop()
    return Outcome(watch.finished(), watch.failed())


def longest_first(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """Runs in the order of their seeds, and of each seed those with most to compute first: no core idles at the end."""
    order = {seed: place for place, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    return sorted(runs, key=lambda run: (order[run.seed], -workload(run.config)))


class Processes:
    """Runs in processes of this machine, one core each; implements Workplace.

    A process ends with this one, however this one ends, since it holds the other end of its standard input.
    """

    def __init__(self, out: Path, jobs: int) -> None:
        """out: the study's directory. jobs: processes at a time."""
        self.jobs = jobs
        self._out = out
        self._running: dict[IO[bytes], tuple[StudyRun, subprocess.Popen[bytes]]] = {}

    def start(self, run: StudyRun) -> None:
        """Start a process for the run."""
        directory = self._out / run.directory
        log = _log_of(directory)
        log.parent.mkdir(parents=True, exist_ok=True)
        order = {"config": run.config.to_dict(), "directory": str(directory)}
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "offbeat.studies.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | _ONE_CORE,
                start_new_session=True,  # Ctrl-C is for the study, which ends its runs
            )
        assert process.stdin is not None and process.stdout is not None
        self._running[process.stdout] = run, process
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended already; `wait` finds out why

    def wait(self, timeout_s: float) -> list[tuple[StudyRun, str | None]]:
        """The runs that ended: the other end of their standard output is closed, whatever ended them."""
        return [self._close(stream) for stream in wait(list(self._running), timeout_s)]  # type: ignore[arg-type]

    def progress(self) -> None:
        """The records grow in the study's directory."""

    def stop(self) -> None:
        """Ask all processes to end, and end those that do not."""
        end_processes([process for _, process in self._running.values()], signal.SIGTERM, _STOP_S)
        for stream in list(self._running):
            run, _ = self._running[stream]
            self._close(stream)
            _log_of(self._out / run.directory).unlink(missing_ok=True)  # it did not fail

    def _close(self, stream: IO[bytes]) -> tuple[StudyRun, str | None]:
        run, process = self._running.pop(stream)
        stream.close()
        assert process.stdin is not None
        process.stdin.close()
        code, log = process.wait(), _log_of(self._out / run.directory)
        if code == 0:
            log.unlink(missing_ok=True)
            return run, None
        said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        ended = f"signal {-code} ended its process" if code < 0 else f"its process ended with code {code}"
        return run, said[-1] if said else ended


def _log_of(directory: Path) -> Path:
    """Where a run's complaints go."""
    return directory.with_name(f"{directory.name}.log")
