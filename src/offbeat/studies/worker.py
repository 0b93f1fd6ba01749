"""One run of a study, from where it stands to its end; and the process that a study starts for each.

The process reads what to run as one line of JSON, says why it failed on standard error, and ends when its standard
input is closed: whatever ends the study, even a kill, ends its runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from offbeat.config import RunConfig
from offbeat.directory import CHECKPOINT, forget, is_finished
from offbeat.errors import OffbeatError


def carry_out(config: RunConfig, directory: Path) -> None:
    """Train the run, go on with it from its last checkpoint, or leave it where it is finished.

    A directory without a checkpoint is of a run that was killed while it began. Raises: OffbeatError.
    """
    from offbeat.run import resume, train  # loads what trains, after the process has been told how many cores it has

    with _held(directory):
        if is_finished(directory):
            return
        if (directory / CHECKPOINT).exists():
            resume(directory)
            return
        forget(directory)
        train(config, directory)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Hold the run's directory; waits for a process of an earlier start that has not ended yet."""
    directory.mkdir(parents=True, exist_ok=True)
    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _end_with_study() -> None:
    """Ask this process to end as soon as nobody holds the other end of its standard input."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)  # on the wall clock the robot is stopped first


def main() -> int:
    """Carry out the run that standard input names."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_study, daemon=True).start()
    try:
        carry_out(RunConfig.from_dict(order["config"]), Path(order["directory"]))
    except OffbeatError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
