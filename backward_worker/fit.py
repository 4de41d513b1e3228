"""What is shown of a sample, made to fit: long texts lose their middle, and a text that is asked about never does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from backward_worker.reads import Text
from backward_worker.tokens import cap_for, cut, estimated

ShownT = TypeVar("ShownT")


# what stands in lines of our own, which must not be broken
_LINES: Final = frozenset({"origin", "role", "name", "path", "parameter"})
_LEAST_TOKENS: Final = 20


def size_of(shown: Any) -> int:
    """Return how many tokens the material takes that is shown; what is asked about comes on top."""
    return sum(map(estimated, _material(shown)))


def fitted(shown: ShownT, tokens: int) -> ShownT:
    """Return what is shown, of at most about so many tokens: as is where it fits, else with its long texts cut."""
    sizes = [estimated(text) for text in _material(shown)]
    if sum(sizes) <= tokens:
        return shown
    cap = max(cap_for(sizes, tokens), _LEAST_TOKENS)
    fitting: ShownT = _mapped(shown, lambda text: cut(text, cap))
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
            if field.name not in _LINES:
                yield from _material(getattr(shown, field.name))


def _mapped(shown: Any, change: Callable[[str], str]) -> Any:
    if isinstance(shown, str):
        return change(shown)
    if isinstance(shown, tuple):
        return tuple(_mapped(one, change) for one in shown)
    if is_dataclass(shown) and not isinstance(shown, Text | type):
        changed = {
            field.name: _mapped(getattr(shown, field.name), change)
            for field in fields(shown)
            if field.name not in _LINES
        }
        return replace(shown, **changed)
    return shown
