"""What data is: anything that has a length and can be indexed, a list for one; and how it is divided."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Dataset(Protocol[T_co]):
    """Examples by number, from 0 on: a list, or whatever reads them from where they lie."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int, /) -> T_co: ...


class Subset(Sequence[T]):
    """Some examples of a dataset, read there when they are asked for.

    >>> list(Subset("abc", [2, 0]))
    ['c', 'a']
    """

    def __init__(self, dataset: Dataset[T], indexes: Sequence[int]) -> None:
        self.dataset = dataset
        self.indexes = tuple(indexes)

    def __len__(self) -> int:
        return len(self.indexes)

    # a slice would have to be another Subset, and nobody slices examples
    def __getitem__(self, at: int) -> T:  # type: ignore[override]
        return self.dataset[self.indexes[at]]


def random_split(
    dataset: Dataset[T], lengths: Sequence[int] | Sequence[float], *, seed: int = 0
) -> list[Subset[T]]:
    """Divide a dataset at random, the same way for the same seed.

    >>> [len(part) for part in random_split(range(10), [0.5, 0.25, 0.25])]
    [6, 2, 2]

    `lengths` are numbers of examples that sum to the length of the dataset, or fractions that sum to 1; what does not
    divide evenly goes to the first parts, one each. Raises ValueError where the sum is another.
    """
    counts = _counts(len(dataset), list(lengths))
    indexes = list(range(len(dataset)))
    random.Random(seed).shuffle(indexes)  # noqa: S311  no secret: the order of examples
    starts = [sum(counts[:at]) for at in range(len(counts))]
    return [
        Subset(dataset, indexes[start : start + count]) for start, count in zip(starts, counts, strict=True)
    ]


def _counts(total: int, lengths: list[int] | list[float]) -> list[int]:
    if any(length < 0 for length in lengths):
        raise ValueError(f"lengths are {lengths}; none may be below 0")
    if all(isinstance(length, int) for length in lengths) and sum(lengths) == total:
        return [int(length) for length in lengths]
    if not math.isclose(sum(lengths), 1):
        raise ValueError(
            f"lengths sum to {sum(lengths)}; give numbers that sum to {total}, or fractions that sum to 1"
        )
    # 0.29 of 100 are 28.999…
    counts = [math.floor(total * length + 1e-9) for length in lengths]
    for at in range(total - sum(counts)):
        counts[at % len(counts)] += 1
    return counts
