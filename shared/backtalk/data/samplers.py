"""In which order examples are taken. What is random follows from a seed and the number of the epoch, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence, Sized
from typing import Protocol, runtime_checkable


@runtime_checkable
class Sampler(Protocol):
    """Numbers of examples, and how many they are. One with `set_epoch(epoch)` is told which epoch begins."""

    def __iter__(self) -> Iterator[int]: ...

    def __len__(self) -> int: ...


class SequentialSampler:
    """Takes all examples in their order.

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, dataset: Sized) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._dataset)))

    def __len__(self) -> int:
        return len(self._dataset)


class _Seeded:
    """A sampler of which each round is an epoch, in an order of its own; `set_epoch` names the one that comes next."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next round is."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # a text as seed: neighbouring seeds and epochs have nothing in common
        source = random.Random(f"{self.seed}/{self.epoch}")  # noqa: S311  no secret: the order of examples
        self.epoch += 1
        return iter(self.drawn(source))

    def drawn(self, source: random.Random) -> Sequence[int]:
        """Return the numbers of one epoch."""
        raise NotImplementedError


class RandomSampler(_Seeded):
    """Takes all examples once, in another order each epoch.

    >>> sampler = RandomSampler("abcd", seed=1)
    >>> sorted(sampler) == sorted(sampler) == [0, 1, 2, 3]
    True
    """

    def __init__(self, dataset: Sized, *, seed: int = 0) -> None:
        super().__init__(seed)
        self._dataset = dataset

    def drawn(self, source: random.Random) -> Sequence[int]:
        numbers = list(range(len(self._dataset)))
        source.shuffle(numbers)
        return numbers

    def __len__(self) -> int:
        return len(self._dataset)


class WeightedRandomSampler(_Seeded):
    """Takes `num_samples` examples, each as likely as its weight says; what weighs 0 is never taken.

    >>> list(WeightedRandomSampler([0, 1, 0], 4))
    [1, 1, 1, 1]

    Without `replacement` none is taken twice. Raises ValueError for weights that cannot be drawn by, and where there are
    too few examples.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,  # noqa: FBT001, FBT002  the order that users of tensors know
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.weights = tuple(weights)
        self.num_samples = num_samples
        self.replacement = replacement
        wrong = [weight for weight in self.weights if not 0 <= weight < float("inf")]
        there = sum(weight > 0 for weight in self.weights)
        if wrong or not there:
            raise ValueError(
                f"weights must be 0 or more, and one above 0; found {wrong[0] if wrong else 'none above 0'}"
            )
        if type(num_samples) is not int or num_samples < 1:
            raise ValueError(f"num_samples is {num_samples!r}; it must be a number of examples, 1 or more")
        if not replacement and num_samples > there:
            raise ValueError(
                f"{num_samples} of {there} examples cannot be taken without replacement; take fewer"
            )

    def drawn(self, source: random.Random) -> Sequence[int]:
        numbers = range(len(self.weights))
        if self.replacement:
            return source.choices(numbers, self.weights, k=self.num_samples)
        # Efraimidis and Spirakis: the first to arrive, each at a rate of its weight
        arrivals = {at: source.expovariate(self.weights[at]) for at in numbers if self.weights[at]}
        return sorted(arrivals, key=arrivals.__getitem__)[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples
