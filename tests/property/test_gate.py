"""The gate under any coming, going and giving up."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from backtalk.runtime.gate import FairGate

# who does what: a caller of one of three owners comes, leaves, gives up, or everyone gets a turn
ACTS = st.lists(
    st.tuples(st.sampled_from(["leave", "give up", "turn", "come"]), st.integers(0, 7)), max_size=20
)


async def play(limit, crowd, acts):
    gate = FairGate(limit)
    inside, tasks, doors = set(), [], []
    most = 0

    async def call(at):
        nonlocal most
        await gate.enter(at % 3)
        try:
            inside.add(at)
            most = max(most, len(inside))
            await doors[at].wait()
        finally:
            inside.discard(at)
            gate.leave()

    for act, chosen in [("come", 0)] * crowd + [("turn", 0)] * 2 + acts:
        if act == "come":
            doors.append(asyncio.Event())
            tasks.append(asyncio.create_task(call(len(tasks))))
        elif act == "leave" and doors:
            doors[chosen % len(doors)].set()
        elif act == "give up" and tasks:
            tasks[chosen % len(tasks)].cancel()
        elif act == "turn":
            await asyncio.sleep(0)
    for door in doors:
        door.set()
    stuck = set()
    if tasks:
        _, stuck = await asyncio.wait(tasks, timeout=1)
    for task in stuck:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return most, len(stuck), [end for end in ends if not isinstance(end, asyncio.CancelledError | None)], gate


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
