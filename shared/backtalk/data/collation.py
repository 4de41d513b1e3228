"""Examples put together into a batch: one Variable for each of their fields, whose data is the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backtalk.autodiff.variable import Variable


def collate(examples: Sequence[Any]) -> Any:
    """Return a batch of examples that have the same shape.

    >>> collate([("Hello", 1), ("Goodbye", 2)])
    (Variable([Hello, Goodbye], role=''), Variable([1, 2], role=''))
    >>> collate([{"city": "Rome"}, {"city": "Lima"}])["city"].role
    'city'

    Tuples and dicts keep their shape, however deep, and each of their fields becomes a batch. Variables become one with
    the role of the first; texts and numbers one whose role is their key. Anything else becomes a list.

    Raises ValueError where examples differ in their shape.
    """
    return _collated(list(examples), "")


def _collated(values: list[Any], role: str) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        _check([sorted(map(str, one)) if isinstance(one, Mapping) else one for one in values], role, "keys")
        return {key: _collated([one[key] for one in values], str(key)) for key in first}
    if isinstance(first, tuple):
        _check([len(one) if isinstance(one, tuple) else one for one in values], role, "fields")
        return tuple(_collated(list(field), role) for field in zip(*values, strict=True))
    if all(_is_scalar(one) for one in values):
        return _batch(values, first.role if isinstance(first, Variable) else role)
    return values


def _is_scalar(value: Any) -> bool:
    data = value.data if isinstance(value, Variable) else value
    return isinstance(data, str | int | float)


def _batch(values: list[Any], role: str) -> Variable:
    data = [one.data if isinstance(one, Variable) else one for one in values]
    wanted = isinstance(values[0], Variable) and values[0].requires_grad
    return Variable(data, role, requires_grad=wanted)


def _check(shapes: list[Any], role: str, what: str) -> None:
    """Refuse examples that do not fit together. Raises ValueError that says which is the first that differs."""
    for at, shape in enumerate(shapes):
        if shape != shapes[0]:
            where = f" of {role!r}" if role else ""
            raise ValueError(
                f"example {at} of the batch has other {what}{where} than the first; "
                "give all examples one shape, or a collate_fn of your own"
            )
