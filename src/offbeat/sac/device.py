"""A minibatch as tensors where an update runs, and the update as one CUDA graph where that device is a GPU.

On a CPU a batch is used where it lies. On a GPU it is copied into tensors that stay where they are, because a graph
replays the same work on the same memory. The batch after it, when it is there already, travels meanwhile:

    stream of copies    | batch 2 |                 | batch 3 |
    stream of updates   | batch 1: update ......... | batch 2: update ......... |
    CPU                                  waits for the end |      waits for the end |

A slot is free to be filled again when `update` returns: everything that read it was before the end that was waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace

import torch
from torch import Tensor

from offbeat.sac.frames import DeviceFrames
from offbeat.types import Batch

_LOG = logging.getLogger(__name__)
_WARM_UPDATES = 3  # before a capture: libraries choose their kernels and the optimizer makes its state


class BatchTensors:
    """The fields of `Batch` as tensors on one device, of the batch loaded last; shapes as there."""

    frames: Tensor
    rows: Tensor
    proprioception: Tensor
    next_proprioception: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    terminated: Tensor
    truncated: Tensor

    def __init__(
        self, device: torch.device, resident: DeviceFrames | None = None, in_place: bool | None = None
    ) -> None:
        """resident: where frames lie on the device, for batches that name them. in_place: whether batches are used
        where they lie; by default on a CPU."""
        self._device, self._resident = device, resident
        self._places = torch.empty(0, dtype=torch.int64)
        self._in_place = device.type == "cpu" if in_place is None else in_place
        self._stream = make_stream(device)
        self._own: dict[str, Tensor] = {}
        self._ahead: dict[str, Tensor] = {}
        self._fetched: Batch | None = None

    def load(self, batch: Batch, upcoming: Batch | None = None) -> None:
        """Take a batch over: in place as views of its memory, else as copies in the place of the last, on the current
        stream. upcoming: the batch that will be loaded next; it is fetched while the work that follows runs."""
        if self._resident is not None:
            self._resident.upload(int(batch.rows.max()) + 1)
        if self._in_place:
            self._show(_views(batch))
            return
        views = _views(batch)
        if batch is self._fetched:
            views = self._ahead
            if self._stream is not None:
                torch.cuda.current_stream().wait_stream(self._stream)
        self._copy(views, self._own)
        self._show(self._own)
        self._fetched = upcoming
        if upcoming is not None:
            with following(self._stream):  # only the copies above, which are the last that read `_ahead`
                self._copy(_views(upcoming), self._ahead)

    def images(self) -> tuple[Tensor, Tensor]:
        """Where the images of the batch lie, (R, H, W, 3) uint8, and the rows of its own, (B, S + 1) or (B, 2 S) int64;
        always the same work, to be recorded."""
        if self._resident is not None:
            return self._resident.images, self.rows % len(self._resident.images)
        size = self.frames.shape[:2]
        if self._places.shape != size:
            self._places = torch.arange(size.numel(), device=self._device).view(size)
        return self.frames.flatten(0, 1), self._places

    def forget(self) -> None:
        """Nothing fetched so far will be used: what it was fetched from has changed."""
        self._fetched = None
        if self._resident is not None:
            self._resident.forget()

    def _copy(self, source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
        for name, tensor in source.items():
            if name in target:
                target[name].copy_(tensor, non_blocking=True)
            else:
                target[name] = tensor.to(self._device, copy=True)

    def _show(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            setattr(self, name, tensor)


def _views(batch: Batch) -> dict[str, Tensor]:
    """What a batch holds: frames, or the numbers of its frames, and all the rest."""
    arrays = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array.size}


def make_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream of its own on a GPU; None on a CPU, which has no streams."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None


@contextmanager
def following(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """What is asked of the GPU inside runs on `stream`, after all that was asked on the current one before."""
    if stream is None:
        yield
        return
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield


def pin(batch: Batch) -> bool:
    """Lock the memory of a batch in place so that the GPU of this process fetches from it by itself.

    Returns False where there is no GPU or its driver refuses; the batch can be used all the same. Only for memory that
    this process keeps until it ends. Copies from pinned memory may still run when the call that asked for them has
    returned: give a slot back only after something that waits for the GPU, as a learner's update does.
    """
    if not torch.cuda.is_available():
        return False
    register = torch.cuda.cudart().cudaHostRegister
    arrays = [array for array in (getattr(batch, f.name) for f in fields(Batch)) if array.size]
    if all(int(register(array.ctypes.data, array.nbytes, 0)) == 0 for array in arrays):
        return True
    with suppress(RuntimeError):
        # CUDA tells of a refusal once more, to whoever asks it next: to this one and not to an update.
        torch.zeros(1, device="cuda")
    return False


def pinned(batch: Batch) -> Batch:
    """A copy of a batch in memory that a GPU fetches from by itself."""
    arrays = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    return replace(batch, **{name: torch.from_numpy(a).pin_memory().numpy() for name, a in arrays.items() if a.size})


def host_copy(tensor: Tensor) -> Tensor:
    """Where the CPU reads a tensor of a device: the tensor itself, or a pinned copy of a GPU's."""
    return tensor.cpu().pin_memory() if tensor.device.type == "cuda" else tensor


def make_step(
    eager: Callable[[], None], generator: torch.Generator, stream: torch.cuda.Stream | None
) -> Callable[[], None]:
    """`eager` itself or, given the stream it is called on, a call that records it after a few calls and replays the
    recording from then on. generator: what `eager` draws from, whose numbers go on within the recording."""
    return eager if stream is None else _GraphedStep(eager, generator, stream)


class _GraphedStep:
    """Runs eagerly at first, then as a CUDA graph; for ever eagerly, after a warning, when a capture fails.

    All on one stream that is not the default one: a capture may follow only such work, and finds the workspaces of the
    libraries made. torch's notes on CUDA graphs.
    """

    def __init__(self, eager: Callable[[], None], generator: torch.Generator, stream: torch.cuda.Stream) -> None:
        self._run = self._eager = eager
        self._generator, self._stream = generator, stream
        self._calls = 0

    def __call__(self) -> None:
        if self._calls == _WARM_UPDATES:
            self._record()
        self._calls += 1
        self._run()

    def _record(self) -> None:
        # A capture that fails may leave the generator in the belief that it is being recorded, for ever.
        spare = self._generator.clone_state()
        try:
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._generator)
            with torch.cuda.graph(graph, stream=self._stream):
                self._eager()  # is recorded and computes nothing
        except RuntimeError as error:
            self._generator.graphsafe_set_state(spare)
            reason = str(error).split("\n", 1)[0]
            _LOG.warning("The update could not be made a CUDA graph and runs step by step (%s).", reason)
        else:
            self._run = graph.replay
