"""Batches of a dataset, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from backtalk.data.collation import collate
from backtalk.data.datasets import Dataset
from backtalk.data.samplers import RandomSampler, Sampler, SequentialSampler


class DataLoader:
    """Gives the examples of a dataset in batches; the last may be smaller.

    >>> loader = DataLoader(["Hello", "Goodbye", "Thanks"], batch_size=2)
    >>> [batch.data for batch in loader]
    [['Hello', 'Goodbye'], ['Thanks']]
    >>> len(loader)
    2

    With `shuffle` each round through the loader is in another order, and in the same one in every run of the program:
    it follows from `seed` and the number of the round, which `set_epoch` sets. A `sampler` decides on the examples
    itself. `collate_fn` makes a batch of a list of examples; the default gives Variables, see `collate`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int = 1,
        shuffle: bool = False,  # noqa: FBT001, FBT002  the order that users of tensors know
        sampler: Sampler | None = None,
        drop_last: bool = False,  # noqa: FBT001, FBT002
        seed: int = 0,
        collate_fn: Callable[[Sequence[Any]], Any] = collate,
    ) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; it must be a number of examples, 1 or more")
        if shuffle and sampler is not None:
            raise ValueError("shuffle and sampler both decide on the order; give one of them")
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        if sampler is None:
            sampler = RandomSampler(dataset, seed=seed) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next round is, so that its order is that of this epoch."""
        if callable(told := getattr(self.sampler, "set_epoch", None)):
            told(epoch)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one round; those before `start` are not even read."""
        numbers = islice(iter(self.sampler), start * self.batch_size, None)
        while taken := list(islice(numbers, self.batch_size)):
            if len(taken) < self.batch_size and self.drop_last:
                return
            yield self.collate_fn([self.dataset[number] for number in taken])

    def __len__(self) -> int:
        count = len(self.sampler) / self.batch_size
        return math.floor(count) if self.drop_last else math.ceil(count)
