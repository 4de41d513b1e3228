"""JSON values inside of other text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final, NoReturn

# as deep as a body on a queue may be; how deep Python can go depends on where it is
MAX_DEPTH: Final = 200


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("too large for a number")
    return number


# line breaks inside strings are what models write most often of all that is not allowed
_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_finite)


def value_end(text: str, at: int) -> int | None:
    """Return where the JSON value that begins at `at` ends, None where there is none, or none yet."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return None if _deeper(value, MAX_DEPTH) else end


def parse_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is, None where it is none."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not _deeper(value, MAX_DEPTH) else None


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in items)


def elements(text: str, at: int, end: int) -> Iterator[tuple[Any, str]]:
    """Yield the values of an array, or the one value, each with its source."""
    if text[at] == "{":
        yield _DECODER.raw_decode(text, at)[0], text[at:end]
        return
    at = _skip(text, at + 1)
    while at < end - 1:
        value, after = _DECODER.raw_decode(text, at)
        yield value, text[at:after]
        at = _skip(text, after)


def _skip(text: str, at: int) -> int:
    """Step over white space and the comma between two elements of an array that is known to be good."""
    while text[at] in " \t\r\n,":
        at += 1
    return at
