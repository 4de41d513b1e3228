"""Where an operation reads a variable, and for which of its samples."""

from __future__ import annotations

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
