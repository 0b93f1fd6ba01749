from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offbeat.sac.augment import centre_crop, crop_stacks, draw_offsets, make_crop, margin_pixels


@pytest.mark.parametrize(
    ("share", "size", "pixels"),
    [(0.01, 320, 3), (0.01, 180, 2), (0.01, 160, 2), (0.01, 90, 1), (0.01, 36, 1), (0.0, 90, 0), (0.1, 64, 6)],
)
def test_margin_is_the_share_rounded_but_at_least_one_pixel(share: float, size: int, pixels: int) -> None:
    assert margin_pixels(share, size) == pixels


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 5),
    stack=st.integers(1, 4),
    height=st.integers(8, 20),
    width=st.integers(8, 20),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.2]),
    seed=st.integers(0, 1000),
)
def test_a_crop_is_the_window_at_its_offset(
    batch: int, stack: int, height: int, width: int, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (batch, stack + 1, height, width, 3), dtype=torch.uint8, generator=generator)
    crop = make_crop(share, height, width)
    offsets = draw_offsets(crop, batch, generator)
    places = torch.randperm(frames.shape[:2].numel(), generator=generator).view(frames.shape[:2])
    images = torch.empty_like(frames).flatten(0, 1)
    images[places] = frames
    for part in (slice(None, -1), slice(1, None)):
        view = frames[:, part]
        cut = crop_stacks(images, places[:, part], offsets, crop)
        assert cut.shape == (batch, stack, crop.cropped_height, crop.cropped_width, 3)
        for b, (y, x) in enumerate(offsets.T.tolist()):
            expected = view[b, :, y : y + crop.cropped_height, x : x + crop.cropped_width]
            assert torch.equal(cut[b], expected)


def test_offsets_reach_every_place_a_crop_fits_and_no_other() -> None:
    crop = make_crop(0.1, 20, 30)
    rows, columns = draw_offsets(crop, 2000, torch.Generator().manual_seed(0))
    assert sorted(set(rows.tolist())) == list(range(5))
    assert sorted(set(columns.tolist())) == list(range(7))


def test_the_centre_crop_is_the_middle_window() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 9), dtype=np.uint8)
    image.flags.writeable = False
    window = centre_crop(image, make_crop(0.1, 20, 30))
    assert window.dtype == np.float32
    assert np.array_equal(window, image[2:-2, 3:-3])
