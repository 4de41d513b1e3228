"""How many calls an endpoint gets at once, in played time."""

from __future__ import annotations

import asyncio

import pytest
from fixtures.clock import played

from backtalk.runtime.traffic import CALM_SECONDS, LONGEST_CLOSED, LONGEST_PAUSE, SHARED, Traffic
from backtalk.wire.errors import Closed, Code

LONG = LONGEST_PAUSE + 1


class Street:
    """Traffic to an endpoint that takes `limit` calls; `changes` has what it was after each change."""

    def __init__(self, limit=8):
        self.changes = []
        self.traffic = Traffic(limit, lambda: self.changes.append(self.traffic.closed))
        self.entered = []

    async def fill(self, count):
        """Let calls of as many messages enter, between two moments that pass."""
        await asyncio.sleep(0.01)
        self.entered = [await self.traffic.enter(object()) for _ in range(count)]
        await asyncio.sleep(0.01)

    def limited(self, count=1, *, seconds=0.0, owner=None):
        """Have some of those inside told that they are too many, and to wait."""
        for entered in self.entered[:count]:
            self.traffic.limited(owner or object(), entered, seconds, told)

    def empty(self):
        for _ in self.entered:
            self.traffic.leave()
        self.entered = []

    async def places(self):
        """Return how many calls of an empty street are let in at once."""
        tasks = [asyncio.ensure_future(self.traffic.enter(object())) for _ in range(50)]
        await settle()
        inside = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*inside, return_exceptions=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        let_in = [end for end in ends if isinstance(end, float)]
        for _ in let_in:
            self.traffic.leave()
        return len(let_in)

    async def cut(self, to):
        """Bring the limit down by one refusal to so many."""
        await self.fill(2 * to)
        self.limited()
        self.empty()


def told():
    return Closed(Code.UPSTREAM_UNAVAILABLE, "too much to do")


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


# ---- the limit


@played
async def test_an_endpoint_that_never_complains_gets_as_many_as_are_allowed():
    """No more than that, and no fewer."""
    street = Street(8)
    for _ in range(20):
        street.traffic.succeeded()
    assert await street.places() == 8


@pytest.mark.parametrize(("inside", "left"), [(8, 4), (5, 2), (2, 1), (1, 1)])
@played
async def test_a_refusal_halves_what_was_inside(inside, left):
    """What was too many is known by how many there were, not by how many were allowed; one is always let in."""
    street = Street(100)
    await street.fill(inside)
    street.limited()
    street.empty()
    assert await street.places() == left


@played
async def test_refusals_of_calls_sent_at_once_count_as_one():
    """Those that were sent before the limit fell say nothing new."""
    street = Street(8)
    await street.fill(8)
    street.limited(8)
    street.empty()
    assert await street.places() == 4


@played
async def test_a_refusal_of_a_call_sent_later_counts_again():
    """The lower limit was too high as well."""
    street = Street(8)
    await street.cut(to=4)
    await street.cut(to=2)
    assert await street.places() == 2


@played
async def test_the_limit_grows_by_one_for_a_round_of_successes():
    """As long as the last complaint is not long ago, four successes make five of four."""
    street = Street(8)
    await street.cut(to=4)
    for _ in range(4):
        street.traffic.succeeded()
    assert await street.places() == 4
    street.traffic.succeeded()
    assert await street.places() == 5


@played
async def test_in_calm_times_the_limit_grows_with_every_success():
    """Up to what is allowed, and not beyond."""
    street = Street(8)
    await street.cut(to=2)
    await asyncio.sleep(CALM_SECONDS + 0.1)
    street.traffic.succeeded()
    assert await street.places() == 3
    for _ in range(20):
        street.traffic.succeeded()
    assert await street.places() == 8


# ---- short waits


@played
async def test_all_wait_as_long_as_one_was_told_to():
    """Nobody is sent away; those who wait go on when the time is over."""
    street = Street(8)
    await street.fill(8)
    street.limited(seconds=2)
    street.empty()
    waiting = asyncio.ensure_future(street.traffic.enter("a"))
    await asyncio.sleep(1.9)
    assert not waiting.done()
    await asyncio.sleep(0.2)
    assert waiting.done()
    street.traffic.leave()
    assert (await street.places(), street.changes, street.traffic.closed) == (4, [], False)


@pytest.mark.parametrize("waits", [(1, 4), (4, 1)])
@played
async def test_the_longest_wait_counts(waits):
    """Whichever was told first."""
    street = Street(8)
    await street.fill(8)
    for seconds in waits:
        street.limited(seconds=seconds)
    street.empty()
    await asyncio.sleep(3.9)
    assert await street.places() == 0
    await asyncio.sleep(0.2)
    assert await street.places() == 4


@played
async def test_one_that_gives_up_while_all_wait_takes_no_place_with_it():
    """The others have all there are."""
    street = Street(2)
    await street.fill(2)
    street.limited(seconds=1)
    street.empty()
    waiting = [asyncio.ensure_future(street.traffic.enter(owner)) for owner in "abc"]
    await settle()
    waiting[0].cancel()
    await asyncio.sleep(1.1)
    assert [task.cancelled() or task.done() for task in waiting] == [True, True, False]
    street.traffic.leave()
    await settle()
    assert waiting[2].done()


# ---- closing


@pytest.mark.parametrize(("told_to", "closed_for"), [(LONG, LONG), (3600, LONGEST_CLOSED)])
@played
async def test_a_long_wait_that_many_were_told_closes_for_that_long(told_to, closed_for):
    """Whoever waits or comes is told why; no sender can have it closed for ever, and it opens for one at first."""
    street = Street(SHARED)
    await street.fill(SHARED)
    waiting = asyncio.ensure_future(street.traffic.enter("waits"))
    await settle()
    street.limited(SHARED, seconds=told_to)
    assert street.traffic.closed
    street.empty()
    with pytest.raises(Closed, match="too much to do"):
        await waiting
    with pytest.raises(Closed, match="too much to do"):
        await street.traffic.enter("comes")
    await asyncio.sleep(closed_for - 0.2)
    assert street.changes == [True]
    await asyncio.sleep(0.2)
    assert (street.changes, await street.places()) == ([True, False], 1)


@played
async def test_a_long_wait_of_one_message_closes_nothing():
    """It may be that message's own, however often it asks."""
    street = Street(8)
    await street.fill(8)
    street.limited(8, seconds=LONG, owner="one")
    street.empty()
    assert (street.changes, await street.places()) == ([], 4)


@played
async def test_a_success_in_between_begins_the_count_anew():
    """An endpoint that answers is not down."""
    street = Street(8)
    await street.fill(SHARED)
    street.limited(SHARED - 1, seconds=LONG)
    street.traffic.succeeded()
    street.limited(SHARED - 1, seconds=LONG)
    assert not street.traffic.closed
    street.limited(1, seconds=LONG)
    assert street.traffic.closed


@played
async def test_after_a_closure_one_long_wait_is_enough():
    """Until a call is answered, the first that comes speaks for all."""
    street = Street(8)
    street.traffic.close(told, 1)
    await asyncio.sleep(1.1)
    await street.fill(1)
    street.limited(seconds=LONG)
    assert street.changes == [True, False, True]


@played
async def test_after_a_success_one_long_wait_is_not_enough_any_more():
    """What was is forgiven."""
    street = Street(8)
    street.traffic.close(told, 1)
    await asyncio.sleep(1.1)
    await street.fill(1)
    street.traffic.succeeded()
    street.limited(seconds=LONG)
    assert street.changes == [True, False]


@played
async def test_what_is_closed_without_a_time_stays_so_until_it_is_opened():
    """A pause that was running before does not open it either."""
    street = Street(8)
    await street.fill(8)
    street.limited(seconds=2)
    street.empty()
    street.traffic.close(told)
    await asyncio.sleep(3600)
    assert street.changes == [True]
    street.traffic.open()
    assert (street.changes, await street.places()) == ([True, False], 1)


@played
async def test_calls_that_were_inside_when_it_closed_change_nothing():
    """Neither their refusals nor their successes open it, or make it wider."""
    street = Street(8)
    await street.fill(8)
    street.traffic.close(told, 10)
    street.limited(4, seconds=100)
    street.traffic.succeeded()
    street.empty()
    assert (await street.places(), street.traffic.closed) == (0, True)
    await asyncio.sleep(10.1)
    assert (await street.places(), street.changes) == (1, [True, False])
