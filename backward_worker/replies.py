"""What the backward model's replies mean: strictly what was asked for, in whatever it is wrapped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from backtalk.asking import aloud
from backtalk.runtime.model import Completion
from backward_worker.gradient import EMPTY, TextGradient

NOTHING: Final = "NO FEEDBACK"
# a reply of nothing but braces is not worth more looks
_LOOKS: Final = 200
_BRACE: Final = re.compile(r"\{")
_HALF: Final = re.compile("[\ud800-\udfff]")


class Unusable(Exception):
    """Raised where a reply cannot be taken as what was asked for; asked again, the model may do better."""


def read_text(completion: Completion) -> TextGradient:
    """Return the gradient that a reply is as a whole. Raises Unusable."""
    return _gradient(_said(completion))


def read_map(completion: Completion, count: int) -> list[TextGradient | None]:
    """Return the gradients in a reply that is to be a JSON object with the keys "1" to `count`; None for one it lacks.

    Raises Unusable where there is no such object.
    """
    found = max(_objects(_said(completion), count), key=len, default={})
    if not found:
        raise Unusable("without the JSON object that was asked for")
    return [_value(found.get(str(number))) for number in range(1, count + 1)]


def _said(completion: Completion) -> str:
    choice = completion.choices[0]
    if choice.get("finish_reason") in ("length", "content_filter"):
        raise Unusable(f"cut off: {choice['finish_reason']}")
    if choice["message"].get("refusal"):
        raise Unusable("refused")
    said = aloud(choice["message"].get("content") or "")
    if not said:
        raise Unusable("empty")
    if not _is_text(said):
        raise Unusable("not Unicode")
    return said


def _gradient(said: str) -> TextGradient:
    return EMPTY if said == NOTHING else TextGradient(said, "model")


def _value(value: Any) -> TextGradient | None:
    if not isinstance(value, str) or not value.strip() or not _is_text(value):
        return None
    return _gradient(value.strip())


def _is_text(said: str) -> bool:
    """Tell whether a text can be sent on: JSON may spell half of a surrogate pair, which is no character."""
    return said.isascii() or not _HALF.search(said)


def _objects(said: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield of every JSON object in a reply what it has under the keys that were asked for."""
    keys = {str(number) for number in range(1, count + 1)}
    decoder = json.JSONDecoder()
    after = 0
    for look, brace in enumerate(_BRACE.finditer(said)):
        if look >= _LOOKS:
            return
        if brace.start() < after:
            continue
        try:
            value, end = decoder.raw_decode(said, brace.start())
        except (ValueError, RecursionError):
            continue
        if found := {key: one for key, one in value.items() if key in keys}:
            after = end
            yield found
