"""How a message is handed to another process: a line of JSON that says all but the body, then the body."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, BinaryIO, Final

from pydantic_core import from_json, to_json

from backtalk.transport.envelope import Envelope

_NAMES: Final = tuple(field.name for field in fields(Envelope) if field.name != "body")


def packed(envelope: Envelope) -> bytes:
    """Return an envelope as bytes; it is one that Backtalk published itself, so its headers are plain."""
    told = {name: getattr(envelope, name) for name in _NAMES}
    return to_json({"size": len(envelope.body), "properties": told}) + b"\n" + envelope.body


def read(stream: BinaryIO) -> Envelope:
    """Read an envelope from a stream that stays open. Raises EOFError where it ends too early."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError("the message was not handed over whole")
    told: dict[str, Any] = from_json(line)
    body = stream.read(told["size"])
    if len(body) < told["size"]:
        raise EOFError("the message was not handed over whole")
    return Envelope(body, **told["properties"])
