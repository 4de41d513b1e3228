"""The result store as a worker sees it: what was paid for a piece of work, and its answer. Here is the port, and none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, Self

from backtalk.runtime.model import Completion
from backtalk.runtime.telemetry import log
from backtalk.wire.codec import decode, encode, pack, unpack
from backtalk.wire.errors import Refused
from backtalk.wire.kinds import AnswerT, Kind, RequestT

_GZIP: Final = b"\x1f\x8b"


class Record(Protocol):
    """What is known of one piece of work. Nothing here fails: a store that is away remembers nothing."""

    @property
    def answer(self) -> bytes | None:
        """The finished answer, as `finish` was given it."""

    @property
    def cancelled(self) -> bool:
        """Whether its sender wanted it no more, before it was opened."""

    @property
    def safe(self) -> bool:
        """Whether the store has all that this worker paid for the work."""

    def entry(self, endpoint: str, body: Mapping[str, Any], place: str) -> bytes:
        """Return what a call is remembered under."""

    def recall(self, entry: bytes) -> Completion | None:
        """Return the completion of a call that was paid before."""

    async def remember(self, entry: bytes, completion: Completion) -> None: ...

    async def finish(self, answer: bytes) -> None: ...

    async def close(self) -> None:
        """Let other workers have the work; whoever opens a record closes it."""


class Store(Protocol):
    """Remembers work by its key, and lets one worker at a time do it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def open(self, key: str, id: str) -> Record:
        """Return the record of a piece of work, once no other worker is doing it; `id` is that of its request."""

    async def cancel(self, id: str) -> None:
        """Remember that nobody wants the request of that id; whoever opens its record is told."""

    def told(self) -> dict[str, int]:
        """Return how often it was of use, and how often it failed."""


class _NoRecord:
    answer = None
    cancelled = False
    safe = False

    def entry(self, endpoint: str, body: Mapping[str, Any], place: str) -> bytes:  # noqa: ARG002
        return b""

    def recall(self, entry: bytes) -> None:
        pass

    async def remember(self, entry: bytes, completion: Completion) -> None:
        pass

    async def finish(self, answer: bytes) -> None:
        pass

    async def close(self) -> None:
        pass


NOTHING: Final = _NoRecord()


class NoStore:
    """Remembers nothing, and lets everybody work at once: what a worker has that was not given a store."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def open(self, key: str, id: str) -> Record:  # noqa: ARG002
        return NOTHING

    async def cancel(self, id: str) -> None:
        pass

    def told(self) -> dict[str, int]:
        return {}


def finished(record: Record, kind: Kind[RequestT, AnswerT]) -> AnswerT | None:
    """Return the answer that a record holds; one that cannot be read, of another version, is none."""
    packed = record.answer
    if packed is None:
        return None
    try:
        return decode(unpack(packed, "gzip" if packed.startswith(_GZIP) else None), kind.answer)
    except Refused as refused:
        log.warning("remembered answer cannot be read", code=refused.error.code.value)
        return None


async def finish(record: Record, answer: AnswerT) -> None:
    """Remember an answer; not one in which something failed: sent again, what failed is tried again."""
    if record is NOTHING or answer.status != "completed":
        return
    try:
        packed, _ = pack(encode(answer), compress=True)
    except Refused:
        # too large, or no Unicode: its sender hears so, and every call of it is remembered by itself
        return
    await record.finish(packed)
