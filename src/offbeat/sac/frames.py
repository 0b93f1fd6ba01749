"""The replay's ring of frames, a second time on the device of the updates: a batch then only says which frames it has.

    replay, host      | f96 | f97 | f98 | f99 | f4  | f5  | ...     number n lies in row n modulo the ring
                        \\____ uploaded since the last batch, each frame once
    copy, device      | f96 | f97 | f98 | ... | f4  | f5  | ...  --gather--> frames of a batch

What a batch needs is uploaded when it is used, up to its newest frame and no further: frames that came after the batch
was drawn cannot take the place of its oldest. Whatever a drawn transition names was stored whole before it was counted,
so that the writer, in this process or in another, is never asked how far it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offbeat.errors import ConfigError
from offbeat.types import ImageArray

_STAGED = 64  # frames on their way at a time


class DeviceFrames:
    """A copy of a replay's frames on one device, uploaded as batches need them."""

    def __init__(self, ring: ImageArray, height: int, width: int, device: torch.device) -> None:
        """ring: (R, H W 3) uint8, the replay's own memory; it may be read-only, and grows under this copy.

        Raises: ConfigError when the device has no room for it.
        """
        self._ring, self._shape = ring, (height, width, 3)
        self._on_gpu = device.type == "cuda"
        try:
            self._copy = torch.empty(ring.shape, dtype=torch.uint8, device=device)
        except RuntimeError as error:
            raise ConfigError(
                f"The replay's frames ({ring.nbytes / 1e9:.1f} GB) find no room on {device}: "
                "use --compute.resident-frames off."
            ) from error
        self._stage = torch.empty((min(_STAGED, len(ring)), ring.shape[1]), dtype=torch.uint8, pin_memory=self._on_gpu)
        self._next = 0

    def upload(self, end: int) -> None:
        """Bring the copy up to the frames before number `end`, on the current stream.

        At most one upload may be under way: whoever calls waits for the device between two calls.
        """
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

    def gather(self, rows: Tensor) -> Tensor:
        """The frames of these numbers (B, S), uploaded before: (B, S, H, W, 3) uint8."""
        return self._copy.index_select(0, rows.flatten() % len(self._ring)).view(*rows.shape, *self._shape)
