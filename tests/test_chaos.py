"""Chaos: a live run loses one of its processes at a random moment, by SIGKILL or SIGSTOP, again and again.

Every time the arm stands still in time, the cause is told, nothing is left behind, and the next round resumes the run:
the replay holds every transition that was counted, to the byte.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offbeat.build import build_replay
from offbeat.directory import read_config
from offbeat.replay import memory_map
from offbeat.run import read_weights
from offbeat.timing.ledger import read_cycles, read_episodes

VICTIMS = ("interaction", "sampling", "updating", "robot")
SIGNALS = (signal.SIGKILL, signal.SIGSTOP)
PATIENCE_S, TRIES = 90.0, 3
WATCHDOG_S, CYCLE_S = 0.12, 0.04
BUSY = "what else this machine is busy with"
MARK = "OFFBEAT_CHAOS"  # in the environment of a run's processes, to find what is left of them
OPTIONS = shlex.split(
    "--setting async-base --scale cpu --clock wall --minutes 60 --warmup-s 0.5 --replay-s 12 --checkpoint-episodes 1 "
    "--env.episode-s 1 --env.fast-reset --env.reset-s 0.2 --sac.batch-size 4 --sac.filters 4 --sac.hidden 16 16 "
    "--wall.processes separate"
)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    patience_s = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < patience_s, f"waited too long for {what}"
        time.sleep(0.01)
    return value


@dataclass
class Chaos:
    """A run directory, what was seen of it so far, and the process of the round."""

    directory: Path
    known: dict[int, int] = field(default_factory=dict)
    added: int = 0
    parent: subprocess.Popen[str] | None = None

    def begin(self) -> dict[str, int]:
        """Train or resume, until transitions are added; the ids of the processes."""
        resumed = (self.directory / "checkpoint.pt").exists()
        command = ["resume", str(self.directory)] if resumed else ["train", *OPTIONS, "--out", str(self.directory)]
        (self.directory / "processes.json").unlink(missing_ok=True)
        self.parent = subprocess.Popen(
            [sys.executable, "-m", "offbeat", *command],
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), MARK: str(self.directory)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        ids = wait_until(self._ids, "the processes")
        parent = self.parent
        wait_until(lambda: parent.poll() is not None or self._replay().added > self.added, "the first transition")
        assert not [line for pid in ids.values() for line in mapped(pid) if "/dev/shm" in line]
        return ids

    def _ids(self) -> dict[str, int] | None:
        assert self.parent is not None
        if self.parent.poll() is not None:
            pytest.fail(f"the run ended by itself: {self.parent.communicate()[1]}")
        path = self.directory / "processes.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _replay(self) -> Any:
        return build_replay(read_config(self.directory), memory_map(self.directory / "replay"))

    def end(self, timeout_s: float = PATIENCE_S) -> tuple[int, str]:
        """Wait for the end of the parent; its exit code and what it said."""
        assert self.parent is not None
        _, said = self.parent.communicate(timeout=timeout_s)
        return self.parent.returncode, said

    def events(self) -> list[dict[str, Any]]:
        """What the robot's process wrote so far."""
        path = self.directory / "robot.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stands(self, since: int) -> list[dict[str, Any]]:
        """The events from number `since` on in which the arm had come to a stand."""
        return [event for event in self.events()[since:] if event["event"] == "still"]

    def check_replay(self) -> None:
        """No transition that was counted is lost, and none has changed."""
        replay = self._replay()
        assert replay.added >= self.added
        sums = {number: sum_of(replay, number) for number in range(replay.added - len(replay), replay.added)}
        assert {n for n in sums.keys() & self.known.keys() if sums[n] != self.known[n]} == set()
        # Between the last look and this one nothing but the ring's own length may have taken one away.
        assert len(replay) >= min(replay.added, replay.capacity - 100)
        self.known, self.added = sums, replay.added


def sum_of(replay: Any, number: int) -> int:
    """A checksum over all of a transition: its images, numbers and flags."""
    arrays = replay._arrays
    slot = number % len(arrays["row"])
    row = int(arrays["row"][slot])
    rows = (row - arrays["lags"][slot].astype(np.int64)) % len(arrays["frames"])
    parts = [arrays["frames"][rows], arrays["proprioception"][rows[-2:]]]
    parts += [arrays[name][slot] for name in ("action", "reward", "terminated", "truncated")]
    return zlib.crc32(b"".join(np.asarray(part).tobytes() for part in parts))


def mapped(pid: int) -> list[str]:
    """The files in a process's memory; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return []


def left_over(directory: Path) -> list[str]:
    """Processes that came from a run in `directory`."""
    found, mark = [], f"{MARK}={directory}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path.parent.name] if mark in path.read_bytes().split(b"\0") else []
        except OSError:  # another's, or ended meanwhile
            continue
    return found


def strike(chaos: Chaos, victim: str, number: signal.Signals, moment_s: float) -> bool:
    """One round: begin, strike after a while, and look at what became of it.

    False when the run had just ended by itself, since this machine was too busy to draw its images in time.
    """
    ids = chaos.begin()
    time.sleep(moment_s)
    before = len(chaos.events())
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.kill(ids[victim], number)
        if victim == "interaction":
            # The arm is alone. Frozen or dead, nobody sends it commands: its own guard has to see that, long before
            # the frozen process is killed. An arm that was standing tells so at the stop that follows: after 0 s.
            time.sleep(4 * WATCHDOG_S)
            os.kill(ids[victim], signal.SIGKILL)
    code, said = chaos.end()
    busy = BUSY in said
    if not busy and victim != "robot":  # which takes its arm with it
        stood = wait_until(lambda: chaos.stands(before), "the arm to stand")
        assert stood[0 if victim == "interaction" else -1]["still_after_s"] <= WATCHDOG_S + CYCLE_S
    if victim == "interaction":
        assert busy or code == -signal.SIGKILL
    else:
        cause = "was killed by SIGKILL" if number == signal.SIGKILL else "gave no sign of life"
        assert code == 1, said
        assert busy or f"The {victim} process {cause}" in said
        assert f"offbeat resume {chaos.directory}" in said
    wait_until(lambda: not left_over(chaos.directory), "all processes to end")
    chaos.check_replay()
    return not busy


def finish(chaos: Chaos) -> None:
    """A last resume, ended by Ctrl-C: a checkpoint to play from, and records without a gap."""
    ids = chaos.begin()
    os.killpg(ids["interaction"], signal.SIGINT)
    code, said = chaos.end()
    assert (code, "Traceback" in said) == (130, False)
    assert left_over(chaos.directory) == []
    chaos.check_replay()
    assert np.isfinite(read_weights(chaos.directory)).all()
    episodes, cycles = read_episodes(chaos.directory), read_cycles(chaos.directory)
    assert len(cycles) == episodes["steps"].sum()
    assert np.all(np.diff(cycles["deadline_s"]) > 0)


def test_one_process_after_the_other_is_lost(tmp_path: Path) -> None:
    chaos, rng = Chaos(tmp_path / "run"), random.Random(3)
    rounds = [("interaction", signal.SIGSTOP), ("updating", signal.SIGKILL), ("sampling", signal.SIGSTOP)]
    for victim, number in [*rounds, ("robot", signal.SIGKILL)]:
        assert any(strike(chaos, victim, number, rng.uniform(0.0, 1.5)) for _ in range(TRIES))
    finish(chaos)


@pytest.mark.slow
def test_forty_rounds_of_chaos(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "0"))
    chaos, rng = Chaos(tmp_path / "run"), random.Random(seed)
    for number in range(40):
        victim, kind, moment_s = rng.choice(VICTIMS), rng.choice(SIGNALS), rng.uniform(0.0, 3.0)
        print(f"round {number} of seed {seed}: {kind.name} to {victim} after {moment_s:.3f} s", flush=True)
        assert any(strike(chaos, victim, kind, moment_s) for _ in range(TRIES))
    finish(chaos)
