"""What a message carries besides its body, in words: AMQP's properties, and headers of ours.

AsyncAPI has no place for AMQP's properties, so they stand among the headers, each with `x-amqp` to tell which it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, TypeAlias

from backtalk.transport.envelope import (
    ACCEPT_ENCODING,
    ATTEMPT,
    REASON,
    REPLY_TO,
    TRACE_LINKS,
    TRACEPARENT,
    TRACESTATE,
    Envelope,
)
from backtalk.transport.topology import Names

# those of an envelope that are no properties
_NOT_PROPERTIES: Final = frozenset({"body", "headers"})
PROPERTIES: Final = tuple(field.name for field in fields(Envelope) if field.name not in _NOT_PROPERTIES)

# a schema, and what is said of it
Told: TypeAlias = tuple[Mapping[str, Any], str]

_TEXT: Final = {"type": "string", "maxLength": 255}
_SECONDS: Final = {"type": "integer", "minimum": 0}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TRACING: Final[Mapping[str, Told]] = {
    TRACEPARENT: (_TEXT, "W3C trace context. Kept on every retry; answers go on with it."),
    TRACESTATE: ({"type": "string"}, "W3C trace context. Kept on every retry; answers go on with it."),
}


def request(type: str, names: Names) -> dict[str, Any]:
    """Return the schema of what a request carries; nothing of it is required."""
    said = {
        "message_id": "Id of the request. The same id with the same body is the same work. "
        "Without it: the hash of body, reply_to and correlation_id.",
        "correlation_id": "Copied to the answer and to chunks. Without it they bear the id.",
        "reply_to": f"Queue for the answer: {names.replies('<name>')}, one of yours, or direct reply-to. Without it "
        f"the answer goes to the exchange {names.results}.",
        "type": "Without it the queue decides.",
        "content_type": "Not looked at.",
        "content_encoding": "Without it the body is not compressed.",
        "timestamp": "When it was sent, in seconds since the epoch. Without it the age of the request counts from "
        "its first retry.",
    }
    headers: dict[str, Told] = {
        ACCEPT_ENCODING: ({"const": "gzip"}, "The sender reads gzipped answers; sending gzip says so too."),
        **_TRACING,
        TRACE_LINKS: ({"type": "string"}, "Further traces that feedback is about, separated by spaces."),
    }
    return _schema(type, said, headers, encodings=("gzip", "identity", "utf-8"))


def answer(type: str, names: Names) -> dict[str, Any]:
    """Return the schema of what an answer carries."""
    said = {
        "message_id": "The same for every repeat of this answer.",
        "correlation_id": "That of the request, or its id.",
        "type": "Tells answers from chunks: who reads a queue of replies goes by it.",
        "content_type": "Always application/json.",
        "content_encoding": "gzip for a large body whose reader said that it reads it; otherwise absent.",
        "timestamp": "When it was sent, in seconds since the epoch.",
    }
    headers: dict[str, Told] = {
        ATTEMPT: (_COUNT, "How often the request was put off before."),
        **_TRACING,
        REPLY_TO: (_TEXT, f"In {names.kept_results} only: the address that did not take the answer."),
    }
    return _schema(type, said, headers, required=(*said.keys() - {"content_encoding"}, ATTEMPT))


def letter(type: str, names: Names) -> dict[str, Any]:
    """Return the schema of what a request in a dead queue carries: its own properties, and the reason."""
    schema = request(type, names)
    reason: dict[str, Told] = {
        REASON: (_TEXT, "Code of the error that the sender was answered."),
        f"{REASON}-text": ({"type": "string"}, "Its message."),
        ATTEMPT: (_COUNT, "How often the request was put off before."),
    }
    # what its sender said of it may be what is wrong with it
    said = {
        name: {**_TEXT, "description": "As its sender wrote it.", "x-amqp": "property"}
        for name in ("type", "content_encoding")
    }
    properties = {**schema["properties"], **said, **_headers(reason)}
    return {**schema, "properties": properties, "required": [REASON, f"{REASON}-text"]}


def order(type: str) -> dict[str, Any]:
    """Return the schema of what an order carries: nobody looks at it."""
    return _schema(type, {"type": "Not looked at."}, {})


def _schema(
    type: str,
    said: Mapping[str, str],
    headers: Mapping[str, Told],
    *,
    encodings: tuple[str, ...] = ("gzip",),
    required: tuple[str, ...] = (),
) -> dict[str, Any]:
    shapes: dict[str, Mapping[str, Any]] = {
        **dict.fromkeys(PROPERTIES, _TEXT),
        "type": {"const": type},
        "content_encoding": {"enum": list(encodings)},
        "timestamp": _SECONDS,
    }
    properties = {
        name: {**shapes[name], "description": said[name], "x-amqp": "property"}
        for name in PROPERTIES
        if name in said
    }
    schema = {"type": "object", "properties": {**properties, **_headers(headers)}}
    return {**schema, "required": sorted(required)} if required else schema


def _headers(headers: Mapping[str, Told]) -> dict[str, Any]:
    return {
        name: {**shape, "description": text, "x-amqp": "header"} for name, (shape, text) in headers.items()
    }
