"""The data of a Variable as a program gives it: checked, made uniform, and shown in short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Scalar: TypeAlias = str | int | float
Data: TypeAlias = Scalar | list[Any] | tuple[Any, ...]
Normal: TypeAlias = Scalar | tuple[Scalar | None, ...]

_END: Final = 20
_ITEMS: Final = 3
_SAYS: Final = {"role": "says what the Variable is for", "name": "all its values share"}


def value_of(data: Any, *, mixed: bool = False) -> Normal:
    """Return data as it is recorded: a scalar, or a tuple, the batch; ints beside floats become floats.

    Raises TypeError for other types and for lists that mix texts and numbers, unless they may be `mixed`; ValueError for
    an empty list and for what JSON cannot hold.
    """
    if isinstance(data, list | tuple):
        return _batch(data, mixed=mixed)
    if not isinstance(data, str | int | float):
        raise TypeError(
            f"data must be one str, int or float, or a list or tuple of these; it is {_named(data)}"
        )
    _check_sendable(data)
    return data


def _batch(items: Sequence[Any], *, mixed: bool) -> tuple[Scalar | None, ...]:
    if not items:
        raise ValueError("data is an empty list; a batch has at least one item")
    there = [item for item in items if item is not None]
    texts = all(isinstance(item, str) for item in there)
    kinds: tuple[type, ...] = (str, int, float) if mixed else (int, float)
    if not texts and not all(isinstance(item, kinds) for item in there):
        found = ", ".join(sorted({_named(item) for item in there}))
        raise TypeError(f"a list as data must hold texts only or numbers only; this one holds {found}")
    for item in there:
        _check_sendable(item)
    if not mixed and any(isinstance(item, float) for item in there):
        return tuple(None if item is None else float(item) for item in items)
    return tuple(items)


def _named(value: Any) -> str:
    return type(value).__name__


def _check_sendable(value: Scalar) -> None:
    """Refuse what JSON cannot hold: infinities, what is larger than any float, and halves of characters."""
    try:
        if isinstance(value, str):
            value.encode()
        elif not math.isfinite(value):
            raise ValueError(f"data is {value}, which no message can hold; use a finite number or a text")
    except UnicodeEncodeError as error:
        raise ValueError(f"data is a text that no message can hold: {error}; decode it as UTF-8") from error
    except OverflowError as error:
        raise ValueError(
            "data is an int that no message can hold: it is larger than any float; use a text"
        ) from error


def words(text: object, what: str) -> str:
    """Return a role or a name. Raises TypeError for what is no text, ValueError for what no message can hold."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str that {_SAYS[what]}; it is {_named(text)}")
    _check_sendable(text)
    return text


def items_of(value: Normal) -> int | None:
    """Return how many items a batch has, None for a scalar."""
    return len(value) if isinstance(value, tuple) else None


def check_same_length(new: Normal, old: Normal) -> None:
    """Refuse to put a list in the place of a scalar, or of a list of another length. Raises ValueError."""
    if items_of(new) == items_of(old):
        return
    raise ValueError(f"{shape(new)} cannot take the place of {shape(old)}; give data of the same shape")


def shape(value: Normal) -> str:
    """Return the shape of data in words."""
    count = items_of(value)
    return "a scalar" if count is None else f"a list of {count}"


def short(value: Normal) -> str:
    """Return data in short: both ends of a long text, the first and last three of a long list."""
    if not isinstance(value, tuple):
        return _short(value)
    shown = [_short(item) for item in value]
    if len(shown) > 2 * _ITEMS:
        shown = [*shown[:_ITEMS], "...", *shown[-_ITEMS:]]
    return f"[{', '.join(shown)}]"


def _short(value: Scalar | None) -> str:
    text = str(value)
    return text if len(text) <= 2 * _END else f"{text[:_END]}...{text[-_END:]}"
