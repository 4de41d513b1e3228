"""How far a batch has come, while it goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from backtalk.batches.pace import Pace
from backtalk.batches.state import Facts
from backtalk.cli.console import console

_LINE_SECONDS: Final = 10.0

OnFacts = Callable[[Facts], None]


@contextmanager
def progress() -> Iterator[OnFacts]:
    """Give what is to be told of each change, until the block ends."""
    pace = Pace()

    def seen(facts: Facts) -> str:
        pace.see(time.monotonic(), facts.done)
        return told(facts, pace)

    with _bar(seen) if console.is_terminal else _lines(seen) as tell:
        yield tell


@contextmanager
def checking(size: int) -> Iterator[Callable[[int], None]]:
    """Show how much of a file was checked, in bytes, on a terminal."""
    if not console.is_terminal:
        yield lambda _done: None
        return
    with Progress(
        TextColumn("checking"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=size, told="")
        yield lambda done: bar.update(task, completed=done, told=f"{decimal(done)} of {decimal(size)}")


def told(facts: Facts, pace: Pace) -> str:
    """Return where a batch stands, in one line."""
    failed = f" ({facts.failed:,} failed)" if facts.failed else ""
    used = facts.usage
    parts = [
        f"{facts.done:,}/{facts.total:,} done{failed}",
        f"{facts.sent:,} sent" if facts.sent < facts.total else "",
        f"{pace.rate:.1f}/s" if pace.rate else "",
        f"{used.get('prompt_tokens', 0):,} tokens in, {used.get('completion_tokens', 0):,} out"
        if used
        else "",
        f"${facts.cost:.2f}" if facts.cost else "",
        _left(pace.left(facts.total)) if facts.open else facts.status.value,
    ]
    return ", ".join(filter(None, parts))


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"


@contextmanager
def _bar(seen: Callable[[Facts], str]) -> Iterator[OnFacts]:
    columns = (TextColumn("requests"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", told="")
        yield lambda facts: bar.update(task, completed=facts.done, total=facts.total, told=seen(facts))


@contextmanager
def _lines(seen: Callable[[Facts], str]) -> Iterator[OnFacts]:
    last = time.monotonic()

    def tell(facts: Facts) -> None:
        nonlocal last
        line = seen(facts)
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            console.print(f"backtalk: {line}", markup=False, highlight=False, soft_wrap=True)

    yield tell
