"""What a body takes in memory, at most, known before it is parsed: by its bytes, and by the values that stand in it.

The numbers were measured on the worst bodies there are, in processes of their own, and are a little above that; a test
measures them again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# a value that is parsed, in bytes: an object of one field, and any other
_PARSED_OBJECT: Final = 230
_PARSED_VALUE: Final = 130
# the same validated, worked on, recorded and answered
_OBJECT: Final = 750
_VALUE: Final = 280

# beyond the first 65,536 characters of Unicode a text takes four bytes for each of its characters
_ASTRAL: Final = re.compile(rb"[\xf0-\xf7]|\\u[dD][89abAB]")


@dataclass(frozen=True, slots=True)
class Shape:
    """A body as far as bytes can tell: how many, how many objects and other values, bytes of a character of a text."""

    size: int
    objects: int
    values: int
    width: int

    @classmethod
    def of(cls, body: bytes) -> Shape:
        # commas and brackets within texts count as well
        return cls(len(body), body.count(b"{"), body.count(b",") + body.count(b"["), _width(body))

    def counted(self, parsed: Mapping[str, Any]) -> Shape:
        """Return the shape without the commas and brackets within texts."""
        objects, values = _count(parsed)
        return Shape(self.size, objects, values, self.width)

    @property
    def parsed(self) -> int:
        """Bytes that it takes to parse it."""
        return (2 + self.width) * self.size + _PARSED_OBJECT * self.objects + _PARSED_VALUE * self.values

    @property
    def worked_on(self) -> int:
        """Bytes that it takes as a request and in the answer, each of its values once."""
        return (3 + self.width) * self.size + _OBJECT * self.objects + _VALUE * self.values


def _width(body: bytes) -> int:
    escaped = b"\\u" in body
    if body.isascii() and not escaped:
        return 1
    return 4 if _ASTRAL.search(body) else 2


def _count(parsed: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many objects there are, and how many other values."""
    objects = values = 0
    waiting: list[Any] = [parsed]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            objects += 1
            values += len(value)
            waiting.extend(item for item in value.values() if isinstance(item, dict | list))
        else:
            values += 1 + len(value)
            waiting.extend(item for item in value if isinstance(item, dict | list))
    return objects, values
