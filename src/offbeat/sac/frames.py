"""The replay's ring of frames where the updates can read it: a batch then only says which frames it has.

A CPU reads the ring itself. A GPU has a copy of it:

    replay, host      | f96 | f97 | f98 | f99 | f4  | f5  | ...     number n lies in row n modulo the ring
                        \\____ uploaded since the last batch, each frame once
    copy, device      | f96 | f97 | f98 | ... | f4  | f5  | ...  --crops--> images of a batch

What a batch needs is uploaded when it is used, up to its newest frame and no further: frames that came after the batch
was drawn cannot take the place of its oldest. Whatever a drawn transition names was stored whole before it was counted,
so that the writer, in this process or in another, is never asked how far it is.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from offbeat.errors import ConfigError
from offbeat.types import ImageArray

_STAGED = 64  # frames on their way at a time


class DeviceFrames:
    """A replay's frames on one device: `images`, (R, H, W, 3) uint8, in which frame number n is row n % R."""

    def __init__(
        self, ring: ImageArray, height: int, width: int, device: torch.device, in_place: bool | None = None
    ) -> None:
        """ring: (R, H W 3) uint8, the replay's own memory; it may be read-only, and grows under this object.
        in_place: whether that memory itself is read, and nothing uploaded; by default on a CPU.

        Raises: ConfigError when the device has no room for a copy.
        """
        self._ring, self._next = ring, 0
        self._in_place = device.type == "cpu" if in_place is None else in_place
        if self._in_place:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor is it written to
                self.images = torch.from_numpy(ring).view(-1, height, width, 3)
            return
        self._on_gpu = device.type == "cuda"
        try:
            self._copy = torch.empty(ring.shape, dtype=torch.uint8, device=device)
        except RuntimeError as error:
            raise ConfigError(
                f"The replay's frames ({ring.nbytes / 1e9:.1f} GB) find no room on {device}: "
                "use --compute.resident-frames off."
            ) from error
        self.images = self._copy.view(-1, height, width, 3)
        self._stage = torch.empty((min(_STAGED, len(ring)), ring.shape[1]), dtype=torch.uint8, pin_memory=self._on_gpu)

    def upload(self, end: int) -> None:
        """Bring a copy up to the frames before number `end`, on the current stream.

        At most one upload may be under way: whoever calls waits for the device between two calls.
        """
        if self._in_place:
            return
        size = len(self._ring)
        begin = max(self._next, end - size)
        while begin < end:
            row = begin % size
            count = min(end - begin, size - row, len(self._stage))
            stage = self._stage[:count]
            np.copyto(stage.numpy(), self._ring[row : row + count])
            self._copy[row : row + count].copy_(stage, non_blocking=True)
            begin += count
            if begin < end and self._on_gpu:
                torch.cuda.current_stream().synchronize()  # before the stage is filled again
        self._next = max(self._next, end)

    def forget(self) -> None:
        """Upload everything again: the replay went back to a checkpoint."""
        self._next = 0
