"""What can be read out of a model's reply, whatever it says around it."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

# a reply that ends in thought has no closing tag
_THOUGHT: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d+)?")


def aloud(reply: str) -> str:
    """Return a reply without the thoughts that some models write before it."""
    return _THOUGHT.sub("", reply).rpartition("</think>")[2].strip()


def judgement_in(reply: str) -> tuple[int | float, str] | None:
    """Return score and explanation from the first JSON object that holds a score, None where there is none."""
    text, decoder = aloud(reply), json.JSONDecoder()
    for brace in re.finditer(r"\{", text):
        try:
            found, _ = decoder.raw_decode(text, brace.start())
        except ValueError:
            continue
        score = _number(found.get("score"))
        if score is not None:
            return score, str(found.get("explanation") or "")
    return None


def _number(value: Any) -> int | float | None:
    """Return a score; some models write it as text, or as yes and no."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    try:
        return value if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None
