"""What is shown of a sample, made to fit: long texts lose their middle, and a text that is asked about never does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Final, TypeVar

from backward_worker.reads import Text
from backward_worker.tokens import cap_for, cut, estimated

ShownT = TypeVar("ShownT")

# what stands in lines of our own, which must not be broken
_LINES: Final = frozenset({"origin", "role", "name", "path", "parameter"})
_LEAST_TOKENS: Final = 20
# a fence, and the words before it
_AROUND_TOKENS: Final = 24


def texts_in(shown: Any) -> list[str]:
    """Return every text in what is shown, however deep."""
    material, lines = _texts(shown, _names)
    return material + lines


def size_of(shown: Any) -> int:
    """Return how many tokens it takes to show this; what is asked about comes on top."""
    material, lines = _texts(shown, _shown_names)
    return sum(map(estimated, material)) + _around(material, lines)


def fitted(shown: ShownT, tokens: int) -> ShownT:
    """Return what is shown, of at most about so many tokens: as is where it fits, else with its long texts cut."""
    material, lines = _texts(shown, _shown_names)
    sizes, room = [estimated(text) for text in material], tokens - _around(material, lines)
    if sum(sizes) <= room:
        return shown
    cap = max(cap_for(sizes, max(0, room)), _LEAST_TOKENS)
    fitting: ShownT = _mapped(shown, lambda text: cut(text, cap))
    return fitting


def _around(material: list[str], lines: Iterable[str]) -> int:
    return _AROUND_TOKENS * len(material) + sum(map(estimated, lines))


def _texts(shown: Any, names: Callable[[type], tuple[str, ...]]) -> tuple[list[str], list[str]]:
    """Return the texts of the material, and those in lines of our own. Every prompt is walked: without recursion."""
    material: list[str] = []
    lines: list[str] = []
    waiting = [shown]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind is str:
            material.append(one)
        elif kind is tuple:
            waiting.extend(reversed(one))
        else:
            for name in reversed(names(kind)):
                value = getattr(one, name)
                if name in _LINES:
                    lines.append(value)
                else:
                    waiting.append(value)
    return material, lines


@cache
def _names(kind: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields, of anything else none."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


@cache
def _shown_names(kind: type) -> tuple[str, ...]:
    """Return the names of what is shown; the texts that may be asked about are shown where they are."""
    return () if kind is Text else _names(kind)


def _mapped(shown: Any, change: Callable[[str], str]) -> Any:
    kind: Any = type(shown)
    if isinstance(shown, str):
        return change(shown)
    if isinstance(shown, tuple):
        return tuple(_mapped(one, change) for one in shown)
    changed = {
        name: _mapped(getattr(shown, name), change) for name in _shown_names(kind) if name not in _LINES
    }
    return replace(shown, **changed) if changed else shown
