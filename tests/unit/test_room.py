"""Memory that messages share: one at a time looks, first come, first served."""

import asyncio

import pytest

from backtalk.runtime.intake import Intake
from backtalk.runtime.room import Room
from backtalk.wire.errors import Code, Stopped, Unavailable
from backtalk.wire.kinds import FORWARD


def stopped():
    return Stopped(Code.CANCELLED, "the worker was stopped")


class Crowd:
    """Messages that come to one room, each in a task; `inside` are those that were let in, in their order."""

    def __init__(self, size):
        self.room = Room(size)
        self.inside = []
        self.tasks = {}

    async def come(self, *messages):
        """Let messages come, each told as its name and what it takes: ("a", 3)."""
        for name, amount in messages:
            self.tasks[name] = asyncio.create_task(self._enter(name, amount))
        await settle()

    async def leave(self, name):
        self.room.leave(name)
        await settle()

    async def _enter(self, name, amount):
        if not self.room.open:
            await self.room.turn()
        self.inside.append(name)
        self.room.take(name, amount)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_while_there_is_room_nobody_waits():
    """A message that finds room is let in without a turn of the loop."""
    room = Room(10)
    for at in range(5):
        assert room.open
        room.take(at, 2)
    assert not room.open


async def test_whoever_leaves_lets_the_next_in():
    """What one took is there for the others again."""
    crowd = Crowd(10)
    await crowd.come(("a", 6), ("b", 6), ("c", 6))
    assert crowd.inside == ["a", "b"]
    await crowd.leave("a")
    assert crowd.inside == ["a", "b", "c"]


async def test_the_first_that_came_is_the_first_let_in():
    """A small message does not pass a large one that came before it."""
    crowd = Crowd(10)
    await crowd.come(("a", 10), ("large", 10), ("small", 1))
    await crowd.leave("a")
    assert crowd.inside == ["a", "large"]
    await crowd.leave("large")
    assert crowd.inside == ["a", "large", "small"]


async def test_one_that_leaves_makes_room_for_as_many_as_fit():
    """One after the other looks, until there is none left."""
    crowd = Crowd(10)
    await crowd.come(("a", 10), *((at, 4) for at in range(5)))
    await crowd.leave("a")
    assert crowd.inside == ["a", 0, 1, 2]


async def test_who_was_let_in_looks_before_anybody_who_comes_now():
    """Between being let in and looking there is a turn of the loop, in which another may come."""
    crowd = Crowd(10)
    await crowd.come(("a", 10), ("b", 10))
    crowd.room.leave("a")
    assert not crowd.room.open
    await crowd.come(("c", 1))
    assert crowd.inside == ["a", "b"]


async def test_one_that_took_nothing_leaves_as_well():
    """What was refused held no room."""
    crowd = Crowd(10)
    await crowd.come(("refused", 0), ("a", 10))
    await crowd.leave("refused")
    await crowd.leave("unknown")
    assert not crowd.room.open
    await crowd.leave("a")
    assert crowd.room.open


async def test_who_gives_up_is_passed_over():
    """Its turn goes to the next."""
    crowd = Crowd(10)
    await crowd.come(("a", 10), ("b", 10), ("c", 1))
    crowd.tasks["b"].cancel()
    await crowd.leave("a")
    assert crowd.inside == ["a", "c"]


async def test_who_gives_up_just_when_it_is_let_in_passes_its_turn_on():
    """A turn that nobody takes would stop all others for ever."""
    crowd = Crowd(10)
    await crowd.come(("a", 10), ("b", 10), ("c", 1))
    crowd.room.leave("a")
    crowd.tasks["b"].cancel()
    await settle()
    assert crowd.inside == ["a", "c"]
    assert crowd.room.open


async def test_a_closed_room_sends_everybody_away():
    """Those that wait, and those that come; whoever is inside stays."""
    crowd = Crowd(10)
    await crowd.come(("a", 10), ("b", 1))
    crowd.room.close(stopped)
    await crowd.come(("c", 1))
    for name in "bc":
        with pytest.raises(Stopped):
            await crowd.tasks[name]
    assert crowd.inside == ["a"]


async def test_a_message_waits_for_room_as_long_as_its_budget():
    """Then it may be tried later, or elsewhere; the remedy names the setting."""
    intake = Intake(FORWARD, room=10)
    assert await intake.turn(60) == 0
    intake.room.take("a", 10)
    with pytest.raises(Unavailable, match=r"budget of 0\.01 s; raise BACKTALK_MAX_BYTES_AT_ONCE"):
        await intake.turn(0.01)
    intake.room.leave("a")
    assert intake.room.open


async def test_the_wait_for_room_is_part_of_the_budget():
    """It is told how long it took."""
    intake = Intake(FORWARD, room=10)
    intake.room.take("a", 10)
    asyncio.get_running_loop().call_later(0.02, intake.room.leave, "a")
    assert await intake.turn(60) >= 0.015
