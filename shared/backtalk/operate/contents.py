"""The body of a letter for people to read: unpacked, JSON as JSON, and nothing in it that steers a terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from backtalk.transport.envelope import Envelope
from backtalk.wire.codec import unpack
from backtalk.wire.errors import Refused

_LAYOUT = "\n\t"


@dataclass(frozen=True, slots=True)
class Contents:
    """A body: `value` where it is JSON, else `text`, in which bytes that are no UTF-8 stand as escapes.

    `problem` tells why it could not be unpacked; it is then shown as it is.
    """

    text: str
    value: Any = None
    is_json: bool = False
    problem: str | None = None


def contents(envelope: Envelope) -> Contents:
    """Return the body of a message to be read."""
    try:
        body, problem = unpack(envelope.body, envelope.content_encoding), None
    except Refused as refused:
        body, problem = envelope.body, str(refused)
    text = body.decode("utf-8", "backslashreplace")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return Contents(text, problem=problem)
    return Contents(text, value, is_json=True, problem=problem)


def printable(text: str) -> str:
    """Return a text with every character that a terminal would obey, or not show, written as an escape."""
    return "".join(one if one.isprintable() or one in _LAYOUT else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
