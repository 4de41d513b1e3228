"""From a delivery to a request: unpacked, parsed and validated when there is room for it, within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Generic

from backtalk.runtime.opened import Opened
from backtalk.runtime.room import Room
from backtalk.wire.codec import MAX_DEPTH, Unpacked, decode, deeper_than, is_gzipped, unpack
from backtalk.wire.errors import Code, TooLarge, Unavailable, invalid
from backtalk.wire.feedback import Feedback
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.kinds import AnswerT, Kind, Request, RequestT
from backtalk.wire.limits import CHECKS, CONTRACT, Limits
from backtalk.wire.policy import Policy
from backtalk.wire.weigh_feedback import weigh_feedback
from backtalk.wire.weigh_job import weigh_job
from backtalk.wire.weight import Shape

USUAL_ROOM: Final = 1024 * 1024 * 1024
_NONE_STATED: Final = Policy()


class Intake(Generic[RequestT, AnswerT]):
    """The way in of one kind of work; `policy` is what the worker says where feedback says nothing."""

    def __init__(
        self,
        kind: Kind[RequestT, AnswerT],
        limits: Limits = CONTRACT,
        room: int = USUAL_ROOM,
        policy: Policy = _NONE_STATED,
    ) -> None:
        self._kind = kind
        self._limits = limits
        self._policy = policy
        self.room = Room(room)

    async def turn(self, budget: float) -> float:
        """Wait until there is room to look into a message, and return the seconds that took.

        Raises Unavailable after `budget` seconds, and what the room was closed with. `request` must follow at once.
        """
        if self.room.open:
            return 0.0
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(budget):
                await self.room.turn()
        except TimeoutError:
            raise Unavailable(
                Code.UPSTREAM_TIMEOUT,
                f"there was no room for the message within the worker's budget of {budget:g} s; "
                "raise BACKTALK_MAX_BYTES_AT_ONCE, or start more workers",
            ) from None
        return clock() - began

    def request(self, opened: Opened) -> Request[RequestT]:
        """Return what a delivery asks, in the room that it takes until its work is forgotten. Raises Refused."""
        taken = 0
        try:
            envelope = opened.delivery.envelope
            if is_gzipped(envelope.body, envelope.content_encoding, self._limits):
                self._check_length(Unpacked(envelope.body, self._limits))
            body = unpack(envelope.body, envelope.content_encoding, self._limits)
            shape = Shape.of(body)
            self._fits(shape.parsed)
            request, shape = self._decoded(body, shape)
            taken = self._fits(_weight(request, shape, self._policy))
            return Request(opened.id, opened.key, request)
        finally:
            self.room.take(opened.key, taken)

    def _decoded(self, body: bytes, shape: Shape) -> tuple[RequestT, Shape]:
        """Return the request, and its shape: counted exactly only where that may make a difference."""
        exact = shape

        def look(parsed: Mapping[str, Any]) -> None:
            nonlocal exact
            if shape.objects + shape.values > MAX_DEPTH and deeper_than(parsed, MAX_DEPTH):
                raise invalid("body", f"is nested more than {MAX_DEPTH} levels; flatten it")
            CHECKS[self._kind.role](parsed, self._limits)
            if shape.worked_on > self.room.size:
                exact = shape.counted(parsed)
            self._fits(exact.worked_on)

        return decode(body, self._kind.request, look), exact

    def _check_length(self, unpacked: Unpacked) -> None:
        """Refuse a bomb while it is there in pieces only; what says that it is one may also be broken."""
        if len(unpacked) > min(self._limits.body_bytes, self.room.size):
            for _ in unpacked:
                pass
            self._fits(len(unpacked))

    def _fits(self, weight: int) -> int:
        if weight > self.room.size:
            raise TooLarge(
                f"takes {weight} bytes of memory, and a worker has room for {self.room.size}; "
                "split the message, or raise BACKTALK_MAX_BYTES_AT_ONCE"
            )
        return weight


def _weight(request: CompletionJob | Feedback, shape: Shape, policy: Policy) -> int:
    if isinstance(request, CompletionJob):
        return weigh_job(request, shape)
    return weigh_feedback(request, shape, policy)
