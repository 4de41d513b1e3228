"""Work that several wait for."""

import asyncio

import pytest

from backward_worker.once import Once


class Work:
    """Counts how often it was begun; waits until it may go on, then gives what it was told to."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.begun = 0
        self.go_on = asyncio.Event()

    async def __call__(self):
        self.begun += 1
        await self.go_on.wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_what_several_ask_for_is_done_once():
    """Everybody gets the same thing."""
    thing = object()
    work = Work(thing)
    once = Once(work)
    work.go_on.set()
    assert await asyncio.gather(*(once.get() for _ in range(5))) == [thing] * 5
    assert await once.get() is thing
    assert work.begun == 1


async def test_nothing_is_an_outcome_as_well():
    """What gives None is not done again."""
    work = Work(None)
    once = Once(work)
    work.go_on.set()
    assert [await once.get(), await once.get()] == [None, None]
    assert work.begun == 1


async def test_nobody_asks_and_nothing_is_done():
    """It has no task of its own."""
    before = asyncio.all_tasks()
    work = Work("x")
    Once(work)
    await asyncio.sleep(0)
    assert work.begun == 0
    assert asyncio.all_tasks() == before


async def test_whoever_is_cancelled_leaves_the_work_to_the_next():
    """Nobody waits for ever, and no task is left."""
    work = Work("x")
    once = Once(work)
    before = asyncio.all_tasks()
    first, second = asyncio.ensure_future(once.get()), asyncio.ensure_future(once.get())
    await asyncio.sleep(0)
    first.cancel()
    work.go_on.set()
    assert await second == "x"
    assert first.cancelled()
    assert asyncio.all_tasks() == before


async def test_work_that_fails_is_tried_again_by_the_next():
    """An exception belongs to whoever met it."""
    work = Work(ValueError("once"), "x")
    once = Once(work)
    work.go_on.set()
    with pytest.raises(ValueError, match="once"):
        await once.get()
    assert await once.get() == "x"
