"""The command line: `offbeat train | resume | study | tune-cycle | profile | report | demo | doctor`, and on arms
`offbeat robot check | robot home | camera check | camera mask | rehearse | serve-robot`.

commands.py lists the commands; what each does is a dataclass that is called. parsing.py reads the line.

Whatever a user gets wrong ends as one sentence on standard error and exit code 2. Libraries that compute are loaded
by the command that needs them, so that help comes at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from rich.console import Console

from offbeat.cli.parsing import parse
from offbeat.cli.training import describe
from offbeat.errors import OffbeatError, UserError, WorkerError

__all__ = ["describe", "main", "parse"]

USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes: something the user can put right; a robot, process or invariant that failed; Ctrl-C (SIGTERM: 143)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = parse(arguments)
        return int(command())
    except SystemExit as exit_:  # help was asked for and printed
        return int(exit_.code or 0)
    except UserError as error:
        return _complain(error, USER_ERROR)
    except WorkerError as error:
        if error.trace:
            _print_error(error.trace.rstrip())
        return _complain(error, FAILURE)
    except OffbeatError as error:
        return _complain(error, FAILURE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(error: OffbeatError, code: int) -> int:
    _print_error(re.sub(r"\s+", " ", f"offbeat: {error}"))
    return code


def _print_error(sentence: str) -> None:
    Console(stderr=True).print(sentence, highlight=False, markup=False, soft_wrap=True)
