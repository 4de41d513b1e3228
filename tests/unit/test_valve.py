"""Whether messages are let in: sources that are paused and resumed, and lose their connection meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.runtime import valve as valve_module
from backtalk.runtime.valve import Valve
from backtalk.transport.envelope import Unconfirmed


class Source:
    """A consumed queue that keeps what it was told; told something, it fails so many times first."""

    def __init__(self, failures=0):
        self.told = []
        self.failures = failures

    async def resume(self):
        await self._do("resume")

    async def pause(self):
        await self._do("pause")

    async def _do(self, what):
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            self.told.append(f"failed to {what}")
            raise Unconfirmed("lost")
        self.told.append(what)


class Wish:
    """What is wanted of a valve, and the valve."""

    def __init__(self):
        self.wanted = True
        self.valve = Valve(lambda: self.wanted)

    async def is_now(self, wanted):
        self.wanted = wanted
        self.valve.changed()
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(valve_module, "RETRY_SECONDS", 0.0)


async def test_sources_are_let_be_until_something_changes_and_paused_in_the_end():
    """They were running when the valve got them; it is open exactly as long as it controls them."""
    wish, sources = Wish(), [Source(), Source()]
    assert not wish.valve.open
    async with wish.valve.on(sources):
        await asyncio.sleep(0.01)
        assert (wish.valve.open, [source.told for source in sources]) == (True, [[], []])
    assert (wish.valve.open, [source.told for source in sources]) == (False, [["pause"], ["pause"]])


async def test_sources_pause_and_resume_as_is_wanted():
    """All of them, each time."""
    wish, sources = Wish(), [Source(), Source()]
    async with wish.valve.on(sources):
        await wish.is_now(wanted=False)
        assert not wish.valve.open
        await wish.is_now(wanted=True)
        assert wish.valve.open
        await wish.is_now(wanted=False)
    assert [source.told for source in sources] == [["pause", "resume", "pause", "pause"]] * 2


async def test_a_source_that_could_not_be_paused_is_asked_again():
    """A lost connection is tried until it listens, and the others are not forgotten for it."""
    wish, sources = Wish(), [Source(failures=2), Source()]
    async with wish.valve.on(sources):
        await wish.is_now(wanted=False)
        assert sources[0].told[:3] == ["failed to pause", "failed to pause", "pause"]
        assert sources[1].told == ["pause"]
        assert not wish.valve.open


async def test_a_wish_that_changes_while_a_source_is_away_is_the_one_that_counts(monkeypatch):
    """What was wanted before is not done any more."""
    monkeypatch.setattr(valve_module, "RETRY_SECONDS", 0.02)
    wish, sources = Wish(), [Source(failures=1)]
    async with wish.valve.on(sources):
        await wish.is_now(wanted=False)
        wish.wanted = True
        await asyncio.sleep(0.05)
        assert (sources[0].told, wish.valve.open) == (["failed to pause", "resume"], True)


async def test_a_connection_that_is_lost_at_the_end_is_no_error():
    """It brings nothing either; the other sources are paused nevertheless."""
    wish, sources = Wish(), [Source(failures=1), Source()]
    async with wish.valve.on(sources):
        pass
    assert [source.told for source in sources] == [["failed to pause"], ["pause"]]


async def test_whatever_ends_the_block_closes_the_valve():
    """Also an exception."""
    wish, source = Wish(), Source()
    with pytest.raises(ValueError, match="boom"):
        async with wish.valve.on([source]):
            raise ValueError("boom")
    assert (wish.valve.open, source.told) == (False, ["pause"])
    await wish.is_now(wanted=False)
    assert source.told == ["pause"]


async def test_a_change_before_it_controls_anything_is_not_missed():
    """An endpoint may close while the worker starts."""
    wish, source = Wish(), Source()
    wish.wanted = False
    wish.valve.changed()
    async with wish.valve.on([source]):
        await asyncio.sleep(0.01)
        assert (wish.valve.open, source.told) == (False, ["pause"])
