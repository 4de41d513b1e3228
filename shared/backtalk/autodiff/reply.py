"""What can be read out of a model's reply, whatever it says around it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from backtalk.asking import aloud

# characters that may be read in vain, and what a nesting counts that is too deep to read
_PATIENCE: Final = 1_000_000
_DEEP: Final = 10_000
_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d+)?")


def judgement_in(reply: str) -> tuple[int | float, str] | None:
    """Return score and explanation from the last JSON object that holds a score, None where there is none."""
    judgement = None
    for found in _objects(aloud(reply)):
        score = _number(found.get("score"))
        if score is not None:
            judgement = score, sendable(str(found.get("explanation") or ""))
    return judgement


def sendable(text: str) -> str:
    """Return a text that a message can hold: halves of characters become question marks."""
    return text.encode(errors="replace").decode()


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text, of which an outer one hides those within; within reason."""
    decoder, at, patience = json.JSONDecoder(), text.find("{"), _PATIENCE
    while at >= 0 and patience > 0:
        try:
            found, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            patience -= error.pos - at + 1
            at += 1
        except (RecursionError, ValueError):
            patience -= _DEEP
            at += 1
        else:
            yield found
        at = text.find("{", at)


def _number(value: Any) -> int | float | None:
    """Return a score; some models write it as text, or as yes and no."""
    if isinstance(value, bool):
        return int(value)
    try:
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value) if "." in value else int(value)
        return value if isinstance(value, int | float) and math.isfinite(value) else None
    except (OverflowError, ValueError):
        return None
