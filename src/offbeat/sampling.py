"""Which transitions a minibatch is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio
_SURE = 3.0  # transitions of the share that are due in a stretch which surely holds one of them


def draw_numbers(rng: np.random.Generator, first: int, added: int, size: int, share: float = 1.0) -> NDArray[np.int64]:
    """Numbers (size,) of transitions from first to added - 1, drawn uniformly, with replacement, from a share of them.

    share: above 0 to 1. A number belongs to it for good or never. Where fewer than three would, all are drawn from.
    """
    numbers = rng.integers(first, added, size=size)
    if share == 1 or share * (added - first) < _SURE:
        return numbers
    while (refused := np.flatnonzero(~_belongs(numbers, share))).size:
        numbers[refused] = rng.integers(first, added, size=refused.size)
    return numbers


def _belongs(numbers: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Which numbers belong to the share: those whose multiple of the golden ratio lies in the first part of [0, 1).

    Such multiples fill [0, 1) evenly, in every stretch of time and at every 80th or 150th number as well: so each place
    in an episode has its share, the last one too. Knuth (1998), The Art of Computer Programming, vol. 3, 6.4.
    """
    places = (numbers.astype(np.uint64) * _GOLDEN) >> np.uint64(11)
    return places < share * 2**53
