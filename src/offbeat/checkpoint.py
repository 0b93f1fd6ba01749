"""Checkpoint files: one zip of plain data and tensors, written whole or not at all, the same bytes for the same state.

A state is a nest of dictionaries (keys: text or integers), lists, tuples, numbers, text, None, numpy arrays and torch
tensors. It is rebuilt before it is written: pickle remembers which objects were one and the same, and a resumed run
holds equal objects that are not the same as those of a run that was never stopped.
"""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offbeat.errors import RunError

_ARRAY = "numpy array"  # key of the dictionary that stands for an array

# What zipfile, zlib and torch raise about bytes that are not what was written.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` by a checkpoint of `state`; a crash leaves the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(_pack(state), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint. Raises: RunError when there is none or it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch does not look at the check sums
        if broken is not None:
            raise RunError(f"The checkpoint {path} is damaged (in {broken}): start a new run in another directory.")
        state = _unpack(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing, so there is nothing to go on from: start a new run.") from error
    except OSError as error:
        raise RunError(f"The checkpoint {path} cannot be read ({error.strerror}).") from error
    except _DAMAGE as error:
        raise _damaged(path) from error
    if not isinstance(state, dict):
        raise _damaged(path)
    return state


def _damaged(path: Path) -> RunError:
    return RunError(f"The checkpoint {path} is truncated or damaged: start a new run in another directory.")


def _pack(value: Any) -> Any:
    """Rebuild a state so that equal states are pickled to equal bytes."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.array(value))}
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (isinstance(key, str), key))
        return {_pack(key): _pack(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return type(value)(_pack(item) for item in value) if type(value) in (list, tuple) else tuple(map(_pack, value))
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, np.generic):
        return value.item()
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        return value[_ARRAY].numpy() if set(value) == {_ARRAY} else {key: _unpack(item) for key, item in value.items()}
    return type(value)(_unpack(item) for item in value) if isinstance(value, list | tuple) else value
