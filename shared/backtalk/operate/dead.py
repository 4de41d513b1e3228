"""Dead letters on a broker: looked at, sent to work again, deleted. No body is held but the one in hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final, TypeAlias

from backtalk.operate.answers import answer
from backtalk.operate.letters import RESULTS, Letter, Selection, letter, revived
from backtalk.transport.envelope import Delivery, Envelope, Unconfirmed
from backtalk.transport.rabbitmq import connect
from backtalk.transport.rabbitmq.browsing import Browser, browse
from backtalk.transport.topology import Names

PATIENCE: Final = 10.0

OnDone: TypeAlias = Callable[[Letter], None]
_Copy: TypeAlias = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class Look:
    """Letters, the oldest first, how many there are in all, and how many others take letters from the queues."""

    letters: tuple[Letter, ...]
    total: int
    consumers: int


class DeadLetters:
    """The dead queues of one namespace, and under the role `results` the answers that nobody took. Everything raises BrokerUnreachable, NoQueue and BeingRead."""

    def __init__(self, url: str, names: Names, *, patience: float = PATIENCE) -> None:
        self._url = url
        self._names = names
        self._patience = patience

    async def look(self, selection: Selection, limit: int | None = None) -> Look:
        """Return the selected letters, at most `limit` of them, and leave all where they are."""
        looks = [await self._look(role, selection, limit) for role in selection.roles]
        oldest_first = merge(*(look.letters for look in looks), key=lambda one: one.sent or 0.0)
        return Look(
            tuple(islice(oldest_first, limit)),
            sum(look.total for look in looks),
            sum(look.consumers for look in looks),
        )

    async def show(self, selection: Selection, limit: int) -> tuple[list[tuple[Letter, Envelope]], int]:
        """Return the selected letters whole, at most `limit` of them, and how many there are."""
        found: list[tuple[Letter, Envelope]] = []
        total = 0
        for role in selection.roles:
            async with self._browse(role) as browser:
                async for one, delivery in _selected(browser, role, selection):
                    total += 1
                    if total <= limit:
                        found.append((one, delivery.envelope))
        return found, total

    async def retry(self, selection: Selection, on_done: OnDone) -> None:
        """Send the selected letters to their work queues, and only then take them out of the dead ones.

        A crash between the two leaves a letter in both: it is worked on, and never lost. Raises what publishing raises.
        """
        async with connect(self._url, name="backtalk operator", patience=self._patience) as broker:
            for role in selection.roles:
                async with self._browse(role) as browser:
                    async for one, delivery in _selected(browser, role, selection):
                        again = revived(delivery.envelope)
                        await broker.publish(again, key=self._names.work(role), patience=self._patience)
                        await _taken(delivery, one)
                        on_done(one)

    async def purge(self, letters: Iterable[Letter], on_done: OnDone) -> None:
        """Delete these letters and no others, whatever was filed since they were looked at."""
        meant = Counter(_copy(one) for one in letters)
        for role in dict.fromkeys(role for role, _, _ in meant):
            async with self._browse(role) as browser:
                async for one, delivery in _selected(browser, role, Selection((role,))):
                    if meant[_copy(one)] > 0:
                        meant[_copy(one)] -= 1
                        await _taken(delivery, one)
                        on_done(one)

    async def _look(self, role: str, selection: Selection, limit: int | None) -> Look:
        async with self._browse(role) as browser:
            kept, total = [], 0
            async for one, _ in _selected(browser, role, selection):
                total += 1
                if limit is None or total <= limit:
                    kept.append(one)
            return Look(tuple(kept), total, browser.consumers)

    def _browse(self, role: str) -> AbstractAsyncContextManager[Browser]:
        queue = self._names.kept_results if role == RESULTS else self._names.dead(role)
        return browse(self._url, queue, patience=self._patience)


async def _selected(
    browser: Browser, role: str, selection: Selection
) -> AsyncIterator[tuple[Letter, Delivery]]:
    position = 0
    async with aclosing(browser.deliveries()) as deliveries:
        async for delivery in deliveries:
            position += 1
            envelope = delivery.envelope
            one = answer(envelope, position) if role == RESULTS else letter(envelope, role, position)
            if selection.takes(one):
                yield one, delivery


async def _taken(delivery: Delivery, one: Letter) -> None:
    if not await delivery.ack():
        raise Unconfirmed(f"the connection was lost before letter {one.id} was taken out; it is still there")


def _copy(one: Letter) -> _Copy:
    """Return what a letter is recognised by; two that agree in it are the same to anybody."""
    return one.role, one.copy, one.code
