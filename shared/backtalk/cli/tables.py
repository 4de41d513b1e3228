"""What is found, on the standard output: a table for people, or one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backtalk.operate.contents import printable

# a program that reads a table wants a row to be a line
UNBROKEN: Final = 10_000


def print_json(document: Any) -> None:
    # ASCII alone: whatever is in there, it can be written, and steers no terminal
    typer.echo(json.dumps(document, indent=2))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Sequence[str] = ()
) -> None:
    """Print rows under the names of their columns; those named in `whole` are not broken into lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    width = None if sys.stdout.isatty() else UNBROKEN
    Console(width=width, highlight=False).print(table)


def at(seconds: float | None) -> str:
    """Return a time in UTC, or nothing where a message tells none."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""
