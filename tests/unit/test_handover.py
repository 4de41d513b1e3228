"""A message on its way to a process of its own arrives as it was."""

from io import BytesIO

import pytest

from backtalk.runtime.handover import packed, read
from backtalk.transport.envelope import Envelope

WHOLE = Envelope(
    b'{"a":\n1}\n\x00\xff',
    message_id="m\n1",
    correlation_id="c",
    reply_to="r",
    type="t",
    content_encoding="gzip",
    timestamp=12.5,
    headers={"x-backtalk-attempt": 2, "traceparent": "ü"},
)


@pytest.mark.parametrize("envelope", [WHOLE, Envelope(b""), Envelope(b"\n" * 100_000)])
def test_a_message_arrives_as_it_was(envelope):
    """Line breaks and binary bytes included; what follows it stays in the stream."""
    stream = BytesIO(packed(envelope) + b"more")
    assert read(stream) == envelope
    assert stream.read() == b"more"


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_half_a_message_is_none(kept):
    """The worker may be killed while it writes."""
    with pytest.raises(EOFError, match="not handed over whole"):
        read(BytesIO(packed(WHOLE)[:kept]))
