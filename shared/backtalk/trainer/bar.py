"""What a person sees who waits: how far it is, how good it is, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from backtalk.trainer.journal import Spent


class Bar:
    """A progress bar on the error output, a line above it for each epoch. One that is not `shown` says nothing."""

    def __init__(self, *, shown: bool) -> None:
        self._console = Console(stderr=True, quiet=not shown, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal or not shown,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, told="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Begin with something that takes so many batches."""
        self._progress.update(self._task, description=what, total=total, completed=done)

    def advance(self, metrics: Mapping[str, float], spent: Spent) -> None:
        """Count a batch; `spent` is what the whole run has taken so far."""
        self._progress.update(self._task, advance=1, told=f"{shown(metrics)}, {price(spent)}")

    def say(self, words: str) -> None:
        """Write a line above the bar."""
        self._console.print(words, markup=False, soft_wrap=True)


def shown(metrics: Mapping[str, float]) -> str:
    """Return metrics in words.

    >>> shown({"score": 0.5, "accuracy": 0.25})
    'score 0.500, accuracy 0.250'
    """
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def price(spent: Spent) -> str:
    """Return what was spent in words; a price that is not known is not guessed.

    >>> price(Spent(1000, 200, None, 1.0))
    '1,200 tokens, cost unknown'
    """
    cost = "cost unknown" if spent.cost is None else f"${spent.cost:.4f}"
    return f"{spent.tokens:,} tokens, {cost}"
