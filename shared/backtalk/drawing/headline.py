"""What an operation shows of itself in a few words, whatever its kind: the fields decide, kinds are not known here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from backtalk.drawing.words import title
from backtalk.wire.graph import Operation

# fields that say what an operation is, so that they need no name; the others are shown as `name value`
_NAMES: Final = ("model", "name", "purpose")
_ELSEWHERE: Final = frozenset({"id", "op", "endpoint", "description", *_NAMES})
_MOST_FACTS: Final = 3


@dataclass(frozen=True, slots=True)
class Headline:
    kind: str
    names: tuple[str, ...]
    facts: tuple[str, ...]


def headline(operation: Operation) -> Headline:
    """Return kind, names and the first plain facts of an operation."""
    names = tuple(
        title(value, 34) for field in _NAMES if isinstance(value := getattr(operation, field, None), str)
    )
    return Headline(operation.op.replace("_", " "), names, tuple(_facts(operation))[:_MOST_FACTS])


def _facts(operation: Operation) -> Iterator[str]:
    for field, value in operation:
        if field not in _ELSEWHERE and (shown := _shown(value)):
            yield title(f"{field} {shown}", 40)


def _shown(value: Any) -> str | None:
    """Return a plain value, or a list of numbers, in a few words; None for what needs more."""
    if isinstance(value, str):
        # a separator is mostly white space
        return value if value.strip() else repr(value)
    if isinstance(value, tuple) and any(map(_is_number, value)):
        return ", ".join(
            "null" if one is None else json.dumps(one) for one in value if _is_number(one) or one is None
        )
    return json.dumps(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
