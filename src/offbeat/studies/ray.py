"""A study's runs as tasks of a Ray cluster; needs the optional extra `ray`, which is imported only here.

A task carries its run out as `runner.Processes` does, in a temporary directory of its node, and hands the finished run
directory back: no file system has to be shared. A run that was under way when the study stopped begins anew.

Whoever reaches a Ray cluster can run code on it, so Ray is asked to want a token, whether it is started here or joined.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offbeat import __version__
from offbeat.config import RunConfig
from offbeat.errors import RunError
from offbeat.studies.directory import arriving
from offbeat.studies.plan import StudyRun
from offbeat.studies.runner import Processes
from offbeat.studies.watch import Watch

LOCAL = "local"
"""The address that starts a cluster of this machine alone."""

_TELL_S = 2.0  # between two words of a task about how far it is
_KNOCK_S = 10.0  # for a cluster to open the connection
_STOP_S = 60.0  # tasks that were cancelled end their runs first


class RayTasks:
    """Runs as tasks of a Ray cluster, one core each; implements Workplace."""

    def __init__(self, out: Path, address: str, jobs: int | None = None) -> None:
        """Join the cluster. out: the study's directory. address: of the cluster, or `LOCAL`. jobs: runs at a time, by
        default as many as the cluster has cores. Raises: RunError when Ray is missing or does not answer."""
        self._ray = ray = _join(address)
        self.jobs = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._out = out
        self._running: dict[Any, StudyRun] = {}
        self._board = ray.remote(_Board).options(num_cpus=0).remote()
        self._carry_out = ray.remote(_carry_out).options(num_cpus=1)

    def start(self, run: StudyRun) -> None:
        """Hand the run to the cluster."""
        task = self._carry_out.remote(__version__, run.setting, run.seed, run.config.to_dict(), self._board)
        self._running[task] = run

    def wait(self, timeout_s: float) -> list[tuple[StudyRun, str | None]]:
        """The runs that ended; those that finished lie in the study's directory then."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        return [self._fetch(task) for task in ended]

    def progress(self) -> Mapping[StudyRun, tuple[int, float | None]]:
        """What the tasks last said of their runs."""
        try:
            told = self._ray.get(self._board.read.remote())
        except self._ray.exceptions.RayError:
            return {}  # its node died; progress is not worth a study
        return {run: told[str(run)] for run in self._running.values() if str(run) in told}

    def stop(self) -> None:
        """Cancel all tasks and leave the cluster."""
        tasks = list(self._running)
        for task in tasks:
            self._ray.cancel(task)
        if tasks:
            self._ray.wait(tasks, num_returns=len(tasks), timeout=_STOP_S)
        self._ray.shutdown()

    def _fetch(self, task: Any) -> tuple[StudyRun, str | None]:
        run = self._running.pop(task)
        try:
            reason, files = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return run, _first_line(error)
        if reason is None:
            with arriving(self._out / run.directory) as directory:
                for name, data in files.items():
                    path = directory / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
        return run, reason


class _Board:
    """How far the runs are, told by the tasks; an actor of the cluster."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, float | None]] = {}

    def tell(self, run: str, episodes: int, return_last20: float | None) -> None:
        self._told[run] = episodes, return_last20

    def read(self) -> dict[str, tuple[int, float | None]]:
        return self._told


def _join(address: str) -> Any:
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is loaded
    try:
        import ray
    except ImportError as error:
        raise RunError("Ray is not installed: install offbeat[ray], or leave out --ray.") from error
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        _knock(address)
        ray.init(address, **quiet, **({"include_dashboard": False} if address == LOCAL else {}))
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RunError(
            f"No Ray cluster can be joined at {address} ({_first_line(error)}): "
            f"start one and keep its token here (docs/studies.md), or give --ray {LOCAL}."
        ) from error
    return ray


def _knock(address: str) -> None:
    """Ray itself waits minutes for a host that is not there. Raises: OSError when nobody listens at host:port."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _KNOCK_S).close()


def _carry_out(
    version: str, setting: str, seed: int, config: dict[str, Any], board: Any
) -> tuple[str | None, dict[str, bytes]]:
    """A task: one run on some node. Returns why it failed, or None and the files of its directory by name."""
    if version != __version__:
        return f"its node has offbeat {__version__}, not {version}: install the same everywhere", {}
    run = StudyRun(setting, seed, RunConfig.from_dict(config))
    with tempfile.TemporaryDirectory(prefix="offbeat-") as folder:
        here, watch = Processes(Path(folder), 1), Watch([run], Path(folder))
        here.start(run)
        watch.started(run)
        try:
            while not (ended := here.wait(_TELL_S)):
                status = watch.look(1).runs[0]
                board.tell.remote(str(run), status.episodes, status.return_last20)
        finally:
            here.stop()
        ((_, reason),) = ended
        directory = Path(folder) / run.directory
        files = {} if reason else {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.is_file()}
        return reason, {name: path.read_bytes() for name, path in files.items()}


def _first_line(error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0].split(". ")[0].rstrip(".:")
