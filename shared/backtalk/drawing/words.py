"""Texts of anyone, made short and harmless enough to be drawn; knows no format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from textwrap import wrap
from typing import Any, Final

from backtalk.wire.base import shortened

# XML holds none of these at all, not even escaped: control characters show as their pictures
_UNFIT: Final = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"},
    **dict.fromkeys([*range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD),
}
FAILED: Final = "failed"


def clean(text: str) -> str:
    """Return a text without the characters that no XML and no UTF-8 can hold."""
    return text.translate(_UNFIT)


def spoken(value: Any) -> str:
    """Return a scalar as people read it: text as it is, a failed item as such, all else as JSON writes it."""
    if value is None:
        return FAILED
    return value if isinstance(value, str) else json.dumps(value)


def excerpt(text: str, *, width: int, lines: int) -> tuple[str, ...]:
    """Return the first lines of a text, wrapped, with a mark where something is missing; none of an empty text."""
    # a text may have megabytes: what follows the part that can be shown is not looked at
    seen = clean(text[: 4 * width * lines])
    wrapped = [line for paragraph in seen.splitlines() for line in wrap(paragraph, width, tabsize=4)]
    shown = wrapped[:lines]
    if shown and (len(wrapped) > lines or len(text) > 4 * width * lines):
        shown[-1] = f"{shown[-1][: width - 1]}…"
    return tuple(shown)


def title(text: str, width: int) -> str:
    """Return the beginning of a text on one line, whatever white space it has."""
    flat = " ".join(clean(text[: 4 * width]).split())
    return shortened(flat, width - 1) if flat else "(empty)"


def ends(path: str, width: int) -> str:
    """Return a path whose middle is left out when it is long: both ends tell more."""
    if len(path) <= width:
        return path
    return f"{path[: width // 3]}…{path[-(width - width // 3) :]}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ranges(numbers: Sequence[int]) -> str:
    """Return rising numbers with runs drawn together: `0, 2-5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def few(labels: Iterable[str], total: int, most: int) -> list[str]:
    """Return the first labels, and a last one that counts those left out."""
    shown = list(islice(labels, most))
    return [*shown, f"and {total - most} more"] if total > most else shown
