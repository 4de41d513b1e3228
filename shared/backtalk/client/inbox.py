"""The receiving end of a stream: each answer once, acknowledged when its reader asks for the next."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeAlias

from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.chunk import CHUNK_TYPE
from backtalk.wire.codec import decode, unpack
from backtalk.wire.errors import Refused
from backtalk.wire.feedback import Gradients
from backtalk.wire.jobs import CompletionResult
from backtalk.wire.kinds import BACKWARD

REMEMBERED: Final = 100_000

AnyAnswer: TypeAlias = CompletionResult | Gradients
_log = logging.getLogger(__name__)


def read(envelope: Envelope) -> AnyAnswer:
    """Return the answer in a message; raises Refused where it is none."""
    body = unpack(envelope.body, envelope.content_encoding)
    if envelope.type == BACKWARD.answer_type:
        return decode(body, Gradients)
    return decode(body, CompletionResult)


class Inbox:
    """Answers as they come, without the repeats of the last `remembered` ids; `heard` is told of each."""

    def __init__(
        self,
        heard: Callable[[AnyAnswer, Envelope], None] = lambda _, __: None,
        remembered: int = REMEMBERED,
    ) -> None:
        self._heard = heard
        self._remembered = remembered
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def deliver(self, delivery: Delivery) -> None:
        self._arrived.put_nowait(delivery)

    async def groups(self, most: int, idle: float | None = None) -> AsyncIterator[list[AnyAnswer]]:
        """Yield what has arrived, up to so many answers at once, acknowledged when the next are asked for.

        Ends where nothing has come for `idle` seconds.
        """
        while True:
            try:
                async with asyncio.timeout(idle):
                    deliveries = [await self._arrived.get()]
            except TimeoutError:
                return
            while len(deliveries) < most and not self._arrived.empty():
                deliveries.append(self._arrived.get_nowait())
            if answers := [one for delivery in deliveries if (one := self._first(delivery.envelope))]:
                yield answers
            for delivery in deliveries:
                await delivery.ack()

    def _first(self, envelope: Envelope) -> AnyAnswer | None:
        """Return the answer unless it is a repeat, or none at all."""
        if envelope.type == CHUNK_TYPE:
            # a streaming job's partial output: the answer has all of it
            return None
        try:
            answer = read(envelope)
        except Refused as refused:
            _log.warning("dropped message %s, which is no answer: %s", envelope.message_id, refused)
            return None
        # a job that failed and was sent again under its id is answered under the same id, and that is no repeat
        seen = (envelope.message_id or "", answer.status)
        if seen in self._seen:
            return None
        self._seen[seen] = None
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        self._heard(answer, envelope)
        return answer
