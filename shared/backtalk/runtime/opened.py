"""The identity of a delivery, known before a byte of its body is parsed."""

from __future__ import annotations

from dataclasses import dataclass

from backtalk.transport.envelope import Delivery
from backtalk.wire.codec import unpack
from backtalk.wire.errors import Refused
from backtalk.wire.identity import request_id, work_key


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery with its id and work key; `content` is the body, or why it cannot be unpacked."""

    delivery: Delivery
    id: str
    key: str
    content: bytes | Refused

    def unpacked(self) -> bytes:
        """Return the uncompressed body, or raise Refused."""
        if isinstance(self.content, Refused):
            raise self.content
        return self.content


def identify(delivery: Delivery) -> Opened:
    """Return a delivery with its identity; a body that cannot be unpacked identifies itself as it came."""
    envelope = delivery.envelope
    content: bytes | Refused
    try:
        content = unpack(envelope.body, envelope.content_encoding)
    except Refused as refused:
        content = refused
    body = envelope.body if isinstance(content, Refused) else content
    id = request_id(envelope.message_id, body, envelope.reply_to, envelope.correlation_id)
    return Opened(delivery, id, work_key(id, body), content)
