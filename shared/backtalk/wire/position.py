"""Where an operation reads a variable, and for which of its samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Position(NamedTuple):
    """A JSON-pointer path inside an operation, and the one sample of it that reads, where a list of ids is read.

    A batch is read item by item, item `i` by sample `i`; where an operation takes batches apart or puts them
    together, by the samples from `first` on, `length` of them, beginning with item `item`.
    """

    path: str
    sample: int | None
    variable: str
    first: int = 0
    item: int = 0
    length: int | None = None


def agreed(place: str, lengths: Mapping[str, int]) -> int | None:
    """Return the one length of all batches, by path; None where there is none. Raises ValueError where they differ."""
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise ValueError(f"{place}: batch lengths differ ({told}); give all lists of a batch one length")
    return next(iter(lengths.values()), None)
