"""The gate under any coming, going and giving up."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from backtalk.runtime.gate import FairGate

# who does what: a caller of one of three owners comes, leaves, gives up, everyone gets a turn; and what the gate does
COMING_AND_GOING = ["leave", "give up", "turn", "come"]
ACTS = st.lists(st.tuples(st.sampled_from(COMING_AND_GOING), st.integers(0, 7)), max_size=20)
ALL_ACTS = st.lists(
    st.tuples(st.sampled_from([*COMING_AND_GOING, "resize", "refuse"]), st.integers(0, 7)), max_size=25
)


class Refusal(Exception):
    """What a gate says that refuses."""


class Play:
    """A gate, its callers, and what they and it are made to do."""

    def __init__(self, limit):
        self.gate = FairGate(limit)
        self.most = 0
        self._inside, self._tasks, self._doors = set(), [], []

    async def act(self, what, chosen):
        match what:
            case "come":
                self._doors.append(asyncio.Event())
                self._tasks.append(asyncio.create_task(self._call(len(self._tasks))))
            case "leave" if self._doors:
                self._doors[chosen % len(self._doors)].set()
            case "give up" if self._tasks:
                self._tasks[chosen % len(self._tasks)].cancel()
            case "turn":
                await asyncio.sleep(0)
            case "resize":
                self.gate.resize(chosen % 4)
            case "refuse":
                self.gate.refuse(Refusal)

    async def ends(self):
        """Send all away; return how many did not go, and the errors that others ended with."""
        for door in self._doors:
            door.set()
        stuck = set()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=1)
        for task in stuck:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        return len(stuck), [end for end in ends if not isinstance(end, asyncio.CancelledError | None)]

    async def _call(self, at):
        await self.gate.enter(at % 3)
        try:
            self._inside.add(at)
            self.most = max(self.most, len(self._inside))
            await self._doors[at].wait()
        finally:
            self._inside.discard(at)
            self.gate.leave()


async def play(limit, crowd, acts):
    game = Play(limit)
    for what, chosen in [("come", 0)] * crowd + [("turn", 0)] * 2 + acts:
        await game.act(what, chosen)
    # a gate of no places would hold the rest for ever
    game.gate.resize(limit)
    stuck, broken = await game.ends()
    return game.most, stuck, broken, game.gate


async def places(gate, limit):
    """Return how many an idle gate lets in at once."""
    waiting = [asyncio.create_task(gate.enter("x")) for _ in range(limit + 2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    entered = sum(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return entered


@given(limit=st.integers(1, 3), crowd=st.integers(0, 8), acts=ACTS)
def test_no_place_is_ever_lost_or_given_twice(limit, crowd, acts):
    """Never more inside than the limit, nobody waits for ever, nothing breaks, and in the end all is free."""

    async def whole():
        most, stuck, broken, gate = await play(limit, crowd, acts)
        return most, stuck, broken, await places(gate, limit)

    most, stuck, broken, free = asyncio.run(whole())
    assert most <= limit
    assert (stuck, broken, free) == (0, [], limit)


@given(limit=st.integers(1, 3), crowd=st.integers(0, 8), acts=ALL_ACTS)
def test_no_place_is_lost_by_resizing_and_refusing(limit, crowd, acts):
    """Nobody waits for ever, nobody hears anything but the refusal, and in the end all places are free."""

    async def whole():
        most, stuck, broken, gate = await play(limit, crowd, acts)
        return most, stuck, broken, gate.inside, await places(gate, limit)

    most, stuck, broken, inside, free = asyncio.run(whole())
    widest = max([limit, *(chosen % 4 for act, chosen in acts if act == "resize")])
    assert most <= widest
    assert {type(end) for end in broken} <= {Refusal}
    assert (stuck, inside, free) == (0, 0, limit)
