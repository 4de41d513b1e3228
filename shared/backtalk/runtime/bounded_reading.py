"""Answers of endpoints are read up to a length: what goes on for ever, or unpacks for ever, is given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import httpx2

from backtalk.wire.errors import Code, Refused
from backtalk.wire.limits import CONTRACT

# what a body of ours may have at most, since a result holds what was answered
MAX_RESPONSE_BYTES: Final = CONTRACT.body_bytes
# nobody knows what compressed bytes unpack to: words, to no more than this
_UNPACKING: Final = 16


def bounded(endpoint: str) -> Callable[[httpx2.Response], Awaitable[None]]:
    """Return the hook of an HTTP client that has reading raise Refused once a response of the endpoint is too long."""

    async def bound(response: httpx2.Response) -> None:
        packed = response.headers.get("content-encoding", "identity") != "identity"
        most = MAX_RESPONSE_BYTES // _UNPACKING if packed else MAX_RESPONSE_BYTES
        stated = response.headers.get("content-length", "")
        if stated.isdecimal():
            if int(stated) > most:
                raise _too_long(endpoint, most)
            # the transport reads no further than is stated
            return
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, most, endpoint)

    return bound


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, most: int, endpoint: str) -> None:
        self._stream = stream
        self._most = most
        self._endpoint = endpoint

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._stream:
            read += len(chunk)
            if read > self._most:
                raise _too_long(self._endpoint, self._most)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _too_long(endpoint: str, most: int) -> Refused:
    return Refused(
        Code.UPSTREAM_REJECTED,
        f"endpoint {endpoint!r} answered with more than {most} bytes; ask for less with `max_tokens` or `n`, "
        "or check its base URL",
        endpoint=endpoint,
        limit=most,
    )
