"""The result store in Redis: what is kept under which key, for how long, and who may work on it.

`{prefix}:{work key}:claim` says which worker is at it, `:paid` holds its completions, `:answer` its answer.
`{prefix}:cancelled:{hash of an id}` is the tombstone of a request that nobody wants any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from backtalk.runtime.redis_line import Away, Command, Line
from backtalk.runtime.redis_record import Counts, RedisRecord
from backtalk.runtime.store import Record
from backtalk.runtime.telemetry import log
from backtalk.transport.ending import ended

# how long the work of a worker that died has to wait
CLAIM_SECONDS: Final = 10.0
# often enough for several to come late or not at all
BEAT_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.2
_LATE: Final = "the worker was busy for too long, or Redis lost its data: give it more memory"

# a claim whose release was lost is still ours
_CLAIM: Final = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
# a claim that was lost may be somebody else's by now
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
# one that ran out is taken again, if nobody has it: the worker was late, not gone
_RENEW: Final = """
local gone, lost = {}, {}
for at, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[1] then
        redis.call('PEXPIRE', key, ARGV[2])
    elseif redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2]) then
        gone[#gone + 1] = key
    else
        lost[#lost + 1] = key
    end
end
return {gone, lost}
"""


class RedisStore:
    """The work of one role in one namespace, which is the `prefix`; it is kept for so many `seconds`."""

    def __init__(
        self, url: str, *, prefix: str, seconds: float, claim_seconds: float = CLAIM_SECONDS
    ) -> None:
        self.line = Line(url)
        self.counts = Counts()
        self.kept_ms = int(seconds * 1000)
        self._prefix = prefix
        self._claim_ms = int(claim_seconds * 1000)
        self._beat = min(BEAT_SECONDS, claim_seconds / 4)
        self._token = uuid.uuid4().hex
        self._claims: dict[bytes, RedisRecord] = {}

    async def __aenter__(self) -> Self:
        await self.line.connect()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await ended(self._keeper)
        await self.line.close()

    async def open(self, key: str, id: str) -> Record:
        record = RedisRecord(self, f"{self._prefix}:{key}", self._tombstone(id))
        try:
            await self._read(record)
        except Away:
            # it is worked on without: the store is a safety, not a condition
            if record.claimed:
                # nobody knows whether it is ours: the next renewal finds out
                self._claims[record.claim_key] = record
        except BaseException:
            await record.close()
            raise
        return record

    async def _read(self, record: RedisRecord) -> None:
        """Claim a record and read it, after a slow moment once more: cheap beside a call that is paid again."""
        try:
            await self._filled(record)
        except Away:
            if not await self.line.back():
                raise
            await self._filled(record)

    async def _filled(self, record: RedisRecord) -> None:
        found = await self._claimed(record)
        if found.answer:
            record.answer = await self.line.read("GET", record.answer_key)
            self.counts.answers_recalled += record.answer is not None
        record.cancelled = bool(found.cancelled)
        if found.paid and record.answer is None:
            record.known = await self.line.read("HGETALL", record.paid_key)

    async def cancel(self, id: str) -> None:
        # a Redis that is away is no worse than none
        with suppress(Away):
            await self.line.ask(("SET", self._tombstone(id), 1, "PX", self.kept_ms))

    def _tombstone(self, id: str) -> str:
        # an id is its sender's: of any length, with anything in it
        return f"{self._prefix}:cancelled:{hashlib.sha256(id.encode()).hexdigest()}"

    def told(self) -> dict[str, int]:
        return {**vars(self.counts), "store_failures": self.line.failures}

    async def release(self, record: RedisRecord, *first: Command) -> None:
        """Give up the claim of a record, after these commands. Raises Away."""
        self._claims.pop(record.claim_key, None)
        await self.line.ask(*first, ("EVAL", _RELEASE, 1, record.claim_key, self._token))

    async def _claimed(self, record: RedisRecord) -> _Found:
        """Return what there is of a piece of work, once it is answered or ours to do. Raises Away."""
        told = False
        while True:
            record.claimed = True
            found = _Found(
                *await self.line.ask(
                    ("EVAL", _CLAIM, 1, record.claim_key, self._token, self._claim_ms),
                    ("STRLEN", record.answer_key),
                    ("HLEN", record.paid_key),
                    ("EXISTS", record.tombstone_key),
                )
            )
            if found.claimed:
                self._claims[record.claim_key] = record
            else:
                record.claimed = False
            if found.claimed or found.answer or found.cancelled:
                return found
            if not told:
                told = True
                self.counts.waits += 1
                log.info("waits for another worker")
            await asyncio.sleep(POLL_SECONDS)

    async def _keep(self) -> None:
        """Renew all claims, and look for a Redis that went away."""
        while True:
            await asyncio.sleep(self._beat)
            if not self.line.up:
                await self.line.connect()
            elif self._claims:
                await self._renew()

    async def _renew(self) -> None:
        keys = tuple(self._claims)
        try:
            ((gone, lost),) = await self.line.ask(
                ("EVAL", _RENEW, len(keys), *keys, self._token, self._claim_ms)
            )
        except Away:
            return
        for key in lost:
            if record := self._claims.pop(key, None):
                record.safe = False
                log.warning("another worker took the claim", remedy=_LATE)
        for key in gone:
            if record := self._claims.get(key):
                log.warning("claim had run out", remedy=_LATE)
                await record.check()


@dataclass(frozen=True, slots=True)
class _Found:
    """What there was at the beginning: how long the answer is, how many completions, and a tombstone or none."""

    claimed: int
    answer: int
    paid: int
    cancelled: int
