"""How a row of samples is divided where it is too much for one prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise


def ranges_of(sizes: Sequence[int], common: int, room: int) -> Sequence[tuple[int, int]]:
    """Return groups of neighbours: one if all fit, else about the square root of their number, as even as can be.

    A group that does not fit is divided further; what does not fit alone is a group by itself.
    """
    if common + sum(sizes) <= room:
        return [(0, len(sizes))]
    count = math.isqrt(len(sizes) - 1) + 1 if len(sizes) > 1 else 1
    bounds = [round(at * len(sizes) / count) for at in range(count + 1)]
    return [
        (start + first, start + last)
        for start, stop in pairwise(bounds)
        for first, last in _packed(sizes[start:stop], room - common)
    ]


def _packed(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Yield groups of neighbours of at most so much, each as long as can be."""
    start, taken = 0, 0
    for at, size in enumerate(sizes):
        if at > start and taken + size > room:
            yield start, at
            start, taken = at, 0
        taken += size
    yield start, len(sizes)
