"""What is known of an answer that nobody took: whose it is, how it ended, and where it should have gone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from backtalk.operate.letters import RESULTS, Letter
from backtalk.transport.envelope import REPLY_TO, Envelope
from backtalk.wire.codec import unpack
from backtalk.wire.errors import Refused
from backtalk.wire.identity import work_key

_NO_ADDRESS: Final = "its request named no address"


def answer(envelope: Envelope, position: int) -> Letter:
    """Return an answer as a letter: its id is that of the request, its code that of its error, or else its status."""
    told = _told(envelope)
    error = told.get("error")
    code = error.get("code") if isinstance(error, Mapping) else told.get("status")
    address = _text(envelope.headers.get(REPLY_TO))
    id = _text(told.get("id")) or envelope.correlation_id or envelope.message_id or ""
    return Letter(
        role=RESULTS,
        position=position,
        id=id,
        sent=envelope.timestamp,
        code=_text(code),
        text=f"{address} did not take it" if address else _NO_ADDRESS,
        type=envelope.type,
        size=len(envelope.body),
        attempt=envelope.attempt,
        copy=work_key(f"{id} {envelope.message_id}", envelope.body),
    )


def _told(envelope: Envelope) -> Mapping[str, Any]:
    try:
        told = json.loads(unpack(envelope.body, envelope.content_encoding))
    except (Refused, ValueError, RecursionError):
        return {}
    return told if isinstance(told, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
