"""What can be read out of a model's reply, whatever it says around it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

# a reply that ends in thought has no closing tag
_THOUGHT: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_TRIED: Final = 100
_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d+)?")


def aloud(reply: str) -> str:
    """Return a reply without the thoughts that some models write before it."""
    return _THOUGHT.sub("", reply).rpartition("</think>")[2].strip()


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
    """Yield the JSON objects in a text, of which an outer one hides those within; nobody needs more than a few."""
    decoder, at = json.JSONDecoder(), 0
    for _ in range(_TRIED):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            yield found


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
