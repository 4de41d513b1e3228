"""Answers of endpoints are read up to a length, however they come."""

import gzip
import random

import httpx2
import pytest

from backtalk.runtime import bounded_reading
from backtalk.runtime.bounded_reading import bounded
from backtalk.wire.errors import Refused

MOST = 64 * 1024


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let the length be one that a test reaches at once."""
    monkeypatch.setattr(bounded_reading, "MAX_RESPONSE_BYTES", MOST)


class Endless(httpx2.AsyncByteStream):
    """A body without a length; `given` counts what was read of it."""

    def __init__(self, pieces=10**6):
        self.pieces = pieces
        self.given = 0
        self.closed = False

    async def __aiter__(self):
        for _ in range(self.pieces):
            self.given += 1024
            yield b"x" * 1024

    async def aclose(self):
        self.closed = True


async def asked(**response):
    """Ask an endpoint that answers so, and return what was read."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, **response))
    hooks = {"response": [bounded("mine")]}
    async with httpx2.AsyncClient(transport=transport, event_hooks=hooks) as client:
        return (await client.get("http://endpoint/")).content


async def test_a_body_that_goes_on_for_ever_is_given_up():
    """It is read no further than it may be long, and the connection is closed."""
    body = Endless()
    with pytest.raises(Refused, match="endpoint 'mine' answered with more than 65536 bytes") as refused:
        await asked(stream=body)
    assert refused.value.error.code == "upstream_rejected"
    assert body.given == MOST + 1024
    assert body.closed


async def test_a_body_that_says_it_is_too_long_is_not_read():
    """Its header is enough."""
    body = Endless()
    with pytest.raises(Refused, match="max_tokens"):
        await asked(stream=body, headers={"content-length": str(MOST + 1)})
    assert (body.given, body.closed) == (0, True)


@pytest.mark.parametrize("headers", [{}, {"content-length": str(MOST)}], ids=["unsaid", "said"])
async def test_a_body_that_is_as_long_as_it_may_be_is_read_whole(headers):
    """The limit is the most that is read."""
    assert len(await asked(stream=Endless(MOST // 1024), headers=headers)) == MOST


async def test_a_compressed_body_may_not_unpack_to_much_more():
    """Its length is that of the packed bytes, and words are packed to a tenth or so."""
    packed = {"content-encoding": "gzip"}
    assert len(await asked(content=gzip.compress(b"x" * MOST), headers=packed)) == MOST
    with pytest.raises(Refused, match="more than 4096 bytes"):
        await asked(content=gzip.compress(random.randbytes(8192)), headers=packed)
