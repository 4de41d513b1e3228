"""Everything a worker sends: answers, delayed retries, hand-backs, dead letters. Each is confirmed or insisted on.

Partial output is the exception: it is given up where an answer would go elsewhere.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from backtalk.runtime.emit import Emitter, NotTaken
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.telemetry import log
from backtalk.runtime.tracing import NO_TRACING, Tracing
from backtalk.transport.envelope import (
    ACCEPT_ENCODING,
    ATTEMPT,
    REASON,
    REPLY_TO,
    SUSPECT,
    Delivery,
    Envelope,
    QueueFull,
    TransportError,
    Unconfirmed,
    Unroutable,
)
from backtalk.transport.rabbitmq import Broker
from backtalk.transport.topology import Names, topology
from backtalk.wire.chunk import CHUNK_TYPE, CompletionChunk
from backtalk.wire.codec import encode, pack
from backtalk.wire.errors import Error, Refused, invalid
from backtalk.wire.identity import answer_id, derive
from backtalk.wire.kinds import AnswerT, Kind, RequestT

REFUSALS: Final = 3
UNCONFIRMED_SECONDS: Final = 60.0
# nothing is kept for who is not there, and one that was made up closes the connection at each try
DIRECT_SECONDS: Final = 1.0
CHUNK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 1.0
_MAX_REASON: Final = 500
# the broker answers directly: there is no queue, so a mandatory message comes back although it was delivered
_DIRECT: Final = "amq.rabbitmq.reply-to"

# bytes and their content encoding
Packed: TypeAlias = tuple[bytes, str | None]


class Replies:
    """The outgoing side of one kind of work."""

    def __init__(
        self,
        broker: Broker,
        names: Names,
        kind: Kind[RequestT, AnswerT],
        metrics: Metrics | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._broker = broker
        self._metrics = metrics or Metrics(kind.role)
        self._tracing = tracing
        self._names = names
        self._role = kind.role
        self._answer_type = kind.answer_type
        self._topology = topology(names)

    def check(self, reply_to: str | None) -> None:
        """Raise Refused for a reply address that is one of our own queues."""
        if reply_to and self._names.refuses(reply_to):
            raise invalid(
                "reply_to",
                f"{reply_to!r} is a queue of Backtalk's own; answers go to {self._names.replies('<name>')} "
                "or to a queue of yours",
            )

    async def answer(self, answer: AnswerT, *, to: Envelope, id: str, key: str) -> None:
        """Publish an answer until it is confirmed: to its address, else where unclaimed answers are kept."""
        answer, packed = _fitting(answer, compress=_accepts_gzip(to))
        reply_to = self._address(to)
        with self._tracing.sending(reply_to or self._names.results, to) as trace:
            message = _message(self._answer_type, answer_id(key, reply_to), packed, to=to, id=id)
            traced = replace(message, headers={**message.headers, **trace}) if trace else message
            if reply_to and await self._delivered(traced, reply_to):
                return
            address = {REPLY_TO: to.reply_to} if to.reply_to else {}
            kept = replace(traced, headers={**traced.headers, **address})
            await self._insist(kept, exchange=self._names.results, key=f"{self._role}.{answer.status}")

    def emitter(self, *, to: Envelope, id: str) -> Emitter:
        """Return the way out for the partial output of a request; without an address it leads nowhere."""
        reply_to = self._address(to)

        def warn(why: str) -> None:
            log.warning("address does not take partial output", reply_to=reply_to, reason=why)

        return Emitter(partial(self.chunk, reply_to=reply_to, to=to, id=id) if reply_to else None, warn)

    async def chunk(self, chunk: CompletionChunk, *, reply_to: str, to: Envelope, id: str) -> None:
        """Publish a piece of partial output to the address, nowhere else and once. Raises NotTaken."""
        chunk_id = derive(chunk.run, f"chunks/{chunk.sequence}")
        try:
            packed = pack(encode(chunk), compress=_accepts_gzip(to))
            message = _message(CHUNK_TYPE, chunk_id, packed, to=to, id=id)
            async with asyncio.timeout(CHUNK_SECONDS):
                await self._broker.publish(
                    message,
                    key=reply_to,
                    mandatory=_has_queue(reply_to),
                    patience=math.inf if _has_queue(reply_to) else DIRECT_SECONDS,
                )
        except (TransportError, TimeoutError, Refused) as error:
            raise NotTaken(type(error).__name__) from error

    async def file(self, request: Envelope, error: Error) -> None:
        """Put a request in the dead queue, for people, with the reason."""
        reason = {REASON: error.code.value, f"{REASON}-text": error.message[:_MAX_REASON]}
        filed = replace(request, headers={**request.headers, **reason})
        await self._insist(filed, key=self._names.dead(self._role))
        self._metrics.filed(error)

    async def rung(self, request: Envelope, rung: str) -> None:
        """Put a request on a rung; it comes back to the work queue after the rung's time."""
        await self._insist(request, key=self._names.rung(self._role, rung))

    async def hand_back(self, request: Envelope, queue: str) -> None:
        """Put a request back into its own queue, at no cost of its delivery limit."""
        await self._insist(request, key=queue)

    def isolates(self, delivery: Delivery) -> bool:
        """Tell whether a message is to be worked on apart from all others; it is so already in its own queue."""
        return delivery.suspicious and delivery.queue != self._names.suspect(self._role)

    async def isolate(self, request: Envelope) -> None:
        """Put a request where it can kill nothing but itself; it stays a suspect wherever it goes from there."""
        marked = replace(request, headers={**request.headers, SUSPECT: 1})
        await self._insist(marked, key=self._names.suspect(self._role))

    def _address(self, request: Envelope) -> str | None:
        """Return where answers to a request go, None where it names no address that we may answer to."""
        named = request.reply_to
        return named if named and not self._names.refuses(named) else None

    async def _delivered(self, message: Envelope, reply_to: str) -> bool:
        """Tell whether the address took the answer; a broker that is away is waited for."""
        refusals = 0
        while refusals < REFUSALS:
            try:
                patience = UNCONFIRMED_SECONDS if _has_queue(reply_to) else DIRECT_SECONDS
                await self._broker.publish(
                    message, key=reply_to, mandatory=_has_queue(reply_to), patience=patience
                )
            except Unroutable:
                self._metrics.not_published()
                break
            except QueueFull:
                self._metrics.not_published()
                refusals += 1
                await asyncio.sleep(_PAUSE_SECONDS)
            except Unconfirmed:
                self._metrics.not_published()
                if self._broker.connected or not _has_queue(reply_to):
                    break
            else:
                return True
        log.warning("address does not take the answer", reply_to=reply_to, refusals=refusals)
        return False

    async def _insist(self, message: Envelope, *, key: str, exchange: str = "") -> None:
        while True:
            try:
                # the alternate exchange of the results keeps what nobody is bound for
                await self._broker.publish(
                    message, key=key, exchange=exchange, mandatory=not exchange, patience=math.inf
                )
            except QueueFull:
                self._metrics.not_published()
                log.warning("queue is full", queue=key)
                await asyncio.sleep(_PAUSE_SECONDS)
            except Unroutable:
                self._metrics.not_published()
                # somebody deleted it: as it is ours, we make it anew
                await self._made_anew(key)
            else:
                return

    async def _made_anew(self, name: str) -> None:
        """Declare a queue of ours that is gone; where that is not possible now, it may be in a moment."""
        log.warning("queue is missing", queue=name)
        try:
            await self._broker.declare(*self._topology.of(name))
        except TransportError as error:
            log.error("queue cannot be made", queue=name, problem=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)


def _has_queue(reply_to: str) -> bool:
    return not reply_to.startswith(_DIRECT)


def _accepts_gzip(request: Envelope) -> bool:
    return request.content_encoding == "gzip" or request.headers.get(ACCEPT_ENCODING) == "gzip"


def _message(type: str, message_id: str, packed: Packed, *, to: Envelope, id: str) -> Envelope:
    """Return what is sent back to whoever sent a request."""
    body, encoding = packed
    return Envelope(
        body,
        message_id=message_id,
        correlation_id=to.correlation_id or id,
        type=type,
        content_type="application/json",
        content_encoding=encoding,
        timestamp=time.time(),
        headers={ATTEMPT: to.attempt},
    )


def _fitting(answer: AnswerT, *, compress: bool) -> tuple[AnswerT, Packed]:
    """Return the answer in bytes the broker takes: whole, else lighter, else as a failure, last with nothing but why."""
    error = answer.error
    for whole in (answer, answer.lighter()):
        if whole is not None:
            try:
                return whole, pack(encode(whole), compress=compress)
            except Refused as refused:
                error = refused.error if answer.status != "failed" else error or refused.error
    assert error is not None
    try:
        failed = answer.failed(answer.id, error, answer.metadata)
        return failed, pack(encode(failed), compress=compress)
    except Refused:
        bare = answer.failed(answer.id, error.model_copy(update={"details": {}}))
        return bare, pack(encode(bare), compress=compress)
