"""Random crops (Laskin et al. 2020, RAD), vectorised over the batch.

A crop takes `margin` pixels from the two sides of each axis together with an offset drawn per sample; all images of
a stack share the offset, so motion between them is kept. A policy acts on the centre crop.

Images keep the order of bytes in a frame, channels innermost (channels-last): what convolutions run fastest on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offbeat.types import ImageArray


@dataclass(frozen=True)
class Crop:
    """How an image of height x width pixels is cut: `margin_y` and `margin_x` pixels go from each side on average."""

    height: int
    width: int
    margin_y: int
    margin_x: int

    @property
    def cropped_height(self) -> int:
        """Height of a crop (pixels)."""
        return self.height - 2 * self.margin_y

    @property
    def cropped_width(self) -> int:
        """Width of a crop (pixels)."""
        return self.width - 2 * self.margin_x


def margin_pixels(share: float, size: int) -> int:
    """Pixels cut from each side of an axis of `size` pixels: a whole number, at least 1 unless `share` is 0."""
    return max(1, round(share * size)) if share > 0 else 0


def make_crop(share: float, height: int, width: int) -> Crop:
    """The crop that takes `share` of height and width from each side."""
    return Crop(height, width, margin_pixels(share, height), margin_pixels(share, width))


def draw_offsets(crop: Crop, batch_size: int, generator: torch.Generator) -> Tensor:
    """Offsets (2, B) int64 of the upper left corner, rows then columns, uniform over every place a crop fits."""
    device = generator.device
    rows = torch.randint(2 * crop.margin_y + 1, (batch_size,), generator=generator, device=device)
    columns = torch.randint(2 * crop.margin_x + 1, (batch_size,), generator=generator, device=device)
    return torch.stack((rows, columns))


def crop_stacks(images: Tensor, rows: Tensor, offsets: Tensor, crop: Crop) -> Tensor:
    """Cut one window from every stack of a batch, shared by the images of the stack.

    images: (R, H, W, 3) uint8, where they lie: a replay's ring or the memory of a batch. rows: (B, S) int64, the images
    of each stack. offsets: (2, B) int64, the upper left corners. Returns (B, S, h, w, 3) uint8.
    """
    count, height, width, channels = images.shape
    assert (height, width) == (crop.height, crop.width), "images do not have the size the crop was made for"
    assert images.is_contiguous(), "images must lie row by row"
    # A view with the window at every pixel of all images, (pixels, h, 3 w). Windows overlap and nothing is copied until
    # they are selected, which then moves each image's one window by whole rows.
    size = height * width
    last_corner = (count - 1) * size + 2 * crop.margin_y * width + 2 * crop.margin_x
    windows = images.as_strided(
        (last_corner + 1, crop.cropped_height, channels * crop.cropped_width), (channels, width * channels, 1)
    )
    corners = rows * size + (offsets[0] * width + offsets[1])[:, None]
    cut = windows.index_select(0, corners.flatten())
    return cut.view(*rows.shape, crop.cropped_height, crop.cropped_width, channels)


def centre_crop(image: ImageArray, crop: Crop) -> NDArray[np.float32]:
    """The middle window of one stacked image (H, W, C) uint8, as float32 (h, w, C) in [0, 255], a copy."""
    rows = slice(crop.margin_y, crop.height - crop.margin_y)
    columns = slice(crop.margin_x, crop.width - crop.margin_x)
    return image[rows, columns].astype(np.float32)
