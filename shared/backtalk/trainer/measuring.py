"""Batches measured one after the other: the part that learning, validation and tests share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, Protocol

from backtalk.autodiff.mode import no_grad
from backtalk.cognitive import Module
from backtalk.models.client import ModelClient
from backtalk.models.usage import Usage, counted
from backtalk.trainer.bar import Bar
from backtalk.trainer.doing import Doing
from backtalk.trainer.journal import Journal, Line, Spent, Split
from backtalk.trainer.outcome import Outcome
from backtalk.trainer.place import Place
from backtalk.trainer.tally import Tally

# where a program says nothing of its own, what is measured is the same
_STEPS = {
    "train": ("training_step",),
    "val": ("validation_step", "training_step"),
    "test": ("test_step", "validation_step", "training_step"),
}


class Batches(Protocol):
    """What a Trainer takes batches from, a DataLoader for one. `set_epoch` and `batches(start)` are used if there."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class Meter:
    """Adds up what is spent from its making on, with what was spent before."""

    def __init__(self, usage: Usage, earlier: Spent) -> None:
        self._usage, self._earlier, self._began = usage, earlier, time.monotonic()

    @property
    def spent(self) -> Spent:
        """All so far."""
        now = Spent.of(self._usage.as_dict(), time.monotonic() - self._began)
        costs = (self._earlier.cost, now.cost)
        return Spent(
            self._earlier.tokens_in + now.tokens_in,
            self._earlier.tokens_out + now.tokens_out,
            None if None in costs else sum(cost or 0 for cost in costs),
            self._earlier.seconds + now.seconds,
        )


class Measuring:
    """A program in use, with what is told of it while it is measured."""

    def __init__(
        self,
        agent: Module,
        doing: Doing,
        bar: Bar,
        journal: Journal,
        clients: Sequence[ModelClient] | None,
    ) -> None:
        self.agent, self.doing, self.bar, self.journal = agent, doing, bar, journal
        self._clients = clients

    @contextmanager
    def metered(self, earlier: Spent | None = None) -> Iterator[Meter]:
        """Count what is spent within the block."""
        with counted(self._clients) as usage:
            yield Meter(usage, earlier or Spent(0, 0, 0.0, 0.0))

    async def outcome(self, split: Split, batch: Any, at: int) -> Outcome:
        """Take the program's step with a batch."""
        return Outcome.of(await self.doing.call(step_of(self.agent, split), batch, at), batch)

    async def evaluate(
        self, split: Split, loader: Batches, place: Place, meter: Meter, check: Callable[[], None]
    ) -> dict[str, float]:
        """Return the metrics of all batches, with nothing learnt from them; `check` may end it before each."""
        tally = Tally()
        with self.metered() as own, used(self.agent):
            for at, batch in enumerate(loader):
                check()
                with self.metered() as step:
                    outcome = await self.outcome(split, batch, at)
                tally.add(outcome.metrics, outcome.items)
                self.tell("step", split, place, outcome.metrics, step.spent, outcome.items)
                self.bar.advance(tally.means(), meter.spent)
        self.tell("epoch", split, place, tally.means(), own.spent)
        return tally.means()

    def tell(
        self,
        per: Literal["step", "epoch"],
        split: Split,
        place: Place,
        metrics: Mapping[str, float],
        spent: Spent,
        items: int | None = None,
    ) -> None:
        """Write one line of metrics."""
        self.journal.write(Line(per, split, place.current, place.step, items, metrics, spent))


@contextmanager
def used(agent: Module) -> Iterator[None]:
    """Record nothing, and let a program know that it is in use and not being trained; afterwards it is as it was."""
    before = agent.training
    agent.eval()
    try:
        with no_grad():
            yield
    finally:
        agent.train(before)


def step_of(agent: Module, split: Split) -> Callable[[Any, int], Any]:
    """Return the method that takes a batch. Raises TypeError where the program has none."""
    for name in _STEPS[split]:
        if callable(step := getattr(agent, name, None)):
            found: Callable[[Any, int], Any] = step
            return found
    raise TypeError(
        f"{type(agent).__name__} has no {_STEPS[split][0]}(batch, batch_idx); define one that returns an evaluation"
    )


def begun(loader: Batches, epoch: int, start: int) -> Iterable[Any]:
    """Return the batches of an epoch from one of them on."""
    if callable(told := getattr(loader, "set_epoch", None)):
        told(epoch)
    if callable(batches := getattr(loader, "batches", None)):
        left: Iterable[Any] = batches(start)
        return left
    return islice(loader, start, None)
