"""What Redis has of one piece of work: its completions, its answer, and whose it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic_core import from_json, to_json

from backtalk.runtime.model import Completion
from backtalk.runtime.redis_line import Away, Command, Line

# in one step, so that nothing stays without an end; tells whether it is new
_REMEMBER: Final = (
    "local new = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) "
    "redis.call('PEXPIRE', KEYS[1], ARGV[3]) return new"
)


@dataclass
class Counts:
    """How often the store was of use."""

    answers_recalled: int = 0
    calls_recalled: int = 0
    calls_remembered: int = 0
    calls_paid_twice: int = 0
    waits: int = 0


class Keeping(Protocol):
    """What a record needs of its store."""

    line: Line
    counts: Counts
    kept_ms: int

    async def release(self, record: RedisRecord, *first: Command) -> None: ...


class RedisRecord:
    """One piece of work: what was known of it when it was opened, and the way to remember more."""

    def __init__(self, store: Keeping, name: str, tombstone: str) -> None:
        self._store = store
        self.tombstone_key = tombstone
        self.cancelled = False
        self.claim_key = f"{name}:claim".encode()
        self.paid_key = f"{name}:paid"
        self.answer_key = f"{name}:answer"
        self.claimed = False
        self.answer: bytes | None = None
        self.known: dict[bytes, bytes] = {}
        self.remembered = 0
        self.safe = True

    def entry(self, endpoint: str, body: Mapping[str, Any], place: str) -> bytes:
        return hashlib.sha256(to_json((place, endpoint, body))).digest()

    def recall(self, entry: bytes) -> Completion | None:
        known = self.known.get(entry)
        if known is None:
            return None
        self._store.counts.calls_recalled += 1
        return Completion(from_json(known))

    async def remember(self, entry: bytes, completion: Completion) -> None:
        try:
            value = to_json(completion.body)
            (new,) = await self._store.line.ask(
                ("EVAL", _REMEMBER, 1, self.paid_key, entry, value, self._store.kept_ms)
            )
        except (Away, ValueError):
            # half of a surrogate pair is no JSON; the answer says so to its sender
            self.safe = False
        else:
            self.remembered += 1
            self._store.counts.calls_remembered += 1
            # not there when the record was read: another worker was at it as well
            self._store.counts.calls_paid_twice += not new

    async def check(self) -> None:
        """Look whether what was remembered is still there."""
        with suppress(Away):
            (there,) = await self._store.line.ask(("EXISTS", self.paid_key))
            self.safe = self.safe and bool(there or not self.remembered)

    async def finish(self, answer: bytes) -> None:
        await self._release(("SET", self.answer_key, answer, "PX", self._store.kept_ms))

    async def close(self) -> None:
        if self.claimed:
            await self._release()

    async def _release(self, *first: Command) -> None:
        self.claimed = False
        # what cannot be released runs out by itself
        with suppress(Away):
            await self._store.release(self, *first)
