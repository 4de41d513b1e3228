"""A limit on calls at once that is fair between the messages that make them."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from backtalk.runtime.gate import FairGate


class Crowd:
    """Callers of one gate, each in a task, that stay inside until they are told to leave."""

    def __init__(self, limit):
        self.gate = FairGate(limit)
        self.entered = []
        self._doors = {}
        self._tasks = {}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        await self.ends()

    async def come(self, *callers):
        """Let callers such as "a1" (the first of owner "a") come to the gate, in their order."""
        for caller in callers:
            self._doors[caller] = asyncio.Event()
            self._tasks[caller] = asyncio.create_task(self._stay(caller))
        await settle()

    async def leave(self, caller):
        self._doors[caller].set()
        await settle()

    def cancel(self, *callers):
        for caller in callers:
            self._tasks[caller].cancel()

    async def ends(self):
        """Send all away and return how each ended, by caller."""
        for door in self._doors.values():
            door.set()
        _, stuck = await asyncio.wait(self._tasks.values(), timeout=1)
        for task in stuck:
            task.cancel()
        ends = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return dict(zip(self._tasks, ends, strict=True))

    async def _stay(self, caller):
        async with place(self.gate, caller[0]):
            self.entered.append(caller)
            await self._doors[caller].wait()


@asynccontextmanager
async def place(gate, owner):
    await gate.enter(owner)
    try:
        yield
    finally:
        gate.leave()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def free_places(gate, limit):
    """Return how many callers an idle gate lets in."""
    crowd = Crowd(limit)
    crowd.gate = gate
    await crowd.come(*(f"z{at}" for at in range(limit + 3)))
    let_in = len(crowd.entered)
    await crowd.ends()
    return let_in


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_no_more_than_the_limit_are_inside(limit):
    """One leaves, one enters."""
    async with Crowd(limit) as crowd:
        await crowd.come(*(f"a{at}" for at in range(8)))
        assert len(crowd.entered) == limit
        await crowd.leave("a0")
        assert len(crowd.entered) == limit + 1


async def test_places_go_round_robin_over_the_owners():
    """A message with many calls delays another by one turn, not by all its calls."""
    async with Crowd(1) as crowd:
        await crowd.come("a0", "a1", "a2", "a3", "b1", "c1", "b2")
        for _ in range(7):
            await crowd.leave(crowd.entered[-1])
        assert crowd.entered == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]


async def test_calls_of_one_owner_keep_their_order():
    """Within a message first come is first served."""
    async with Crowd(1) as crowd:
        await crowd.come(*(f"a{at}" for at in range(6)))
        for at in range(6):
            await crowd.leave(f"a{at}")
        assert crowd.entered == [f"a{at}" for at in range(6)]


async def test_an_owner_that_comes_late_waits_one_round():
    """Whoever has a thousand in line gets no head start over who comes next."""
    async with Crowd(1) as crowd:
        await crowd.come(*(f"a{at}" for at in range(5)))
        await crowd.leave("a0")
        await crowd.come("b1")
        await crowd.leave("a1")
        await crowd.leave("a2")
        assert crowd.entered == ["a0", "a1", "a2", "b1"]


async def test_the_place_is_free_after_an_exception():
    """What goes wrong inside costs no place."""
    gate = FairGate(2)
    for _ in range(3):
        with suppress(ValueError):
            async with place(gate, "a"):
                raise ValueError
    assert await free_places(gate, 2) == 2


async def test_cancelling_one_that_waits_costs_no_place():
    """It leaves the line, and the others move up."""
    async with Crowd(1) as crowd:
        await crowd.come("a1", "b1", "b2", "c1")
        crowd.cancel("b1")
        await settle()
        await crowd.leave("a1")
        assert crowd.entered in (["a1", "b2"], ["a1", "c1"])
    assert await free_places(crowd.gate, 1) == 1


async def test_cancelling_one_that_is_inside_frees_its_place():
    """A call that is given up makes room."""
    async with Crowd(1) as crowd:
        await crowd.come("a1", "b1")
        crowd.cancel("a1")
        await settle()
        assert crowd.entered == ["a1", "b1"]
    assert await free_places(crowd.gate, 1) == 1


async def test_cancelling_one_that_was_just_let_in_passes_the_place_on():
    """Between being let in and noticing it, a cancelled caller gives its place to the next."""
    async with Crowd(1) as crowd:
        await crowd.come("a1", "b1", "c1")
        crowd._doors["a1"].set()
        await asyncio.sleep(0)
        crowd.cancel("b1")
        await settle()
        assert crowd.entered == ["a1", "c1"]
    assert await free_places(crowd.gate, 1) == 1


async def test_a_place_is_not_given_to_one_that_was_just_cancelled():
    """A caller that is cancelled and has not noticed it yet is passed over; the one that leaves comes to no harm."""
    async with Crowd(1) as crowd:
        await crowd.come("a1", "b1", "c1")
        crowd._doors["a1"].set()
        crowd.cancel("b1")
        await settle()
        assert crowd.entered == ["a1", "c1"]
        ends = await crowd.ends()
        assert (ends["a1"], ends["c1"]) == (None, None)
        assert isinstance(ends["b1"], asyncio.CancelledError)
        assert await free_places(crowd.gate, 1) == 1


async def test_cancelling_all_at_once_leaves_the_gate_as_new():
    """A deadline ends those inside and those in line in the same moment."""
    async with Crowd(3) as crowd:
        callers = [f"{owner}{at}" for owner in "abc" for at in range(4)]
        await crowd.come(*callers)
        crowd.cancel(*callers)
        ends = await crowd.ends()
        assert {type(end) for end in ends.values()} == {asyncio.CancelledError}
        assert await free_places(crowd.gate, 3) == 3


# ---- a limit that changes, and a gate that refuses


async def test_a_wider_gate_lets_those_in_that_wait():
    """At once, and as many as there are new places."""
    async with Crowd(1) as crowd:
        await crowd.come("a1", "a2", "b1", "c1")
        crowd.gate.resize(3)
        await settle()
        assert crowd.entered == ["a1", "a2", "b1"]


async def test_a_narrower_gate_lets_nobody_in_until_so_many_have_left():
    """Those inside stay."""
    async with Crowd(3) as crowd:
        await crowd.come("a1", "a2", "a3", "a4")
        crowd.gate.resize(1)
        for leaver, entered in (("a1", 3), ("a2", 3), ("a3", 4)):
            await crowd.leave(leaver)
            assert len(crowd.entered) == entered


async def test_a_gate_of_no_places_holds_everybody():
    """Until it is wider again; the order is kept."""
    async with Crowd(0) as crowd:
        await crowd.come("a1", "b1", "a2")
        assert crowd.entered == []
        crowd.gate.resize(2)
        await settle()
        assert crowd.entered == ["a1", "b1"]


async def test_refusing_ends_the_wait_of_all_and_disturbs_nobody_inside():
    """Each has an error of its own; whoever comes later waits as usual."""
    errors = []

    def refusal():
        errors.append(ConnectionError(len(errors)))
        return errors[-1]

    async with Crowd(1) as crowd:
        await crowd.come("a1", "a2", "b1")
        crowd.gate.refuse(refusal)
        await settle()
        await crowd.come("c1")
        assert crowd.entered == ["a1"]
        await crowd.leave("a1")
        assert crowd.entered == ["a1", "c1"]
        ends = await crowd.ends()
    assert (ends["a2"], ends["b1"], ends["a1"], ends["c1"]) == (*errors, None, None)
    assert await free_places(crowd.gate, 1) == 1


async def test_one_that_is_cancelled_and_refused_in_the_same_moment_costs_no_place():
    """Whichever it notices."""
    async with Crowd(1) as crowd:
        await crowd.come("a1", "b1", "c1")
        crowd.cancel("b1")
        crowd.gate.refuse(ConnectionError)
        crowd.cancel("c1")
        await settle()
        await crowd.leave("a1")
    assert await free_places(crowd.gate, 1) == 1
