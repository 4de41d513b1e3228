"""What is shown of a sample, made to fit: long texts lose their middle, and a text that is asked about never does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from backward_worker.case import Text
from backward_worker.tokens import cap_for, cut, estimated

ShownT = TypeVar("ShownT")


def size_of(shown: Any) -> int:
    """Return how many tokens a prompt takes that shows this, and asks about the longest of its texts."""
    asked = max((estimated(text.text) for text in shown.texts if text.changes), default=0)
    return asked + sum(map(estimated, _material(shown)))


def fitted(shown: ShownT, tokens: int) -> ShownT:
    """Return what is shown, of at most about so many tokens: as is where it fits, else with its long texts cut."""
    if not tokens or size_of(shown) <= tokens:
        return shown
    sizes = [estimated(text) for text in _material(shown)]
    cap = cap_for(sizes, max(0, tokens - (size_of(shown) - sum(sizes))))
    fitting: ShownT = _mapped(shown, lambda text: cut(text, max(cap, 20)))
    return fitting


def _material(shown: Any) -> Iterator[str]:
    """Yield every text that is shown as material; of the texts that may be asked about, none."""
    if isinstance(shown, str):
        yield shown
    elif isinstance(shown, tuple):
        for one in shown:
            yield from _material(one)
    elif is_dataclass(shown) and not isinstance(shown, Text):
        for field in fields(shown):
            yield from _material(getattr(shown, field.name))


def _mapped(shown: Any, change: Callable[[str], str]) -> Any:
    if isinstance(shown, str):
        return change(shown)
    if isinstance(shown, tuple):
        return tuple(_mapped(one, change) for one in shown)
    if is_dataclass(shown) and not isinstance(shown, Text | type):
        return replace(
            shown, **{field.name: _mapped(getattr(shown, field.name), change) for field in fields(shown)}
        )
    return shown
