"""The room under any coming, going and giving up."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from backtalk.runtime.room import Room

SIZE = 10
# who does what: a message that takes so much comes, or one of those there leaves, gives up, or all get a turn
ACTS = st.lists(
    st.tuples(st.sampled_from(["come", "leave", "give up", "turn"]), st.integers(0, SIZE)), max_size=30
)


class Messages:
    """Messages that come to one room, each a task; they are inside until they leave."""

    def __init__(self):
        self.room = Room(SIZE)
        self.tasks, self.inside, self.order = [], [], []
        self.most = 0

    def come(self, amount):
        self.tasks.append(asyncio.create_task(self._enter(len(self.tasks), amount)))

    def leave(self, chosen):
        if self.inside:
            self.room.leave(self.inside.pop(chosen % len(self.inside)))

    def give_up(self, chosen):
        if self.tasks:
            self.tasks[chosen % len(self.tasks)].cancel()

    async def turn(self, _chosen=0):
        await asyncio.sleep(0)

    async def end(self):
        """Let everybody leave, until nobody comes any more, and return how many wait for ever."""
        for _ in range(3 * len(self.tasks) + 3):
            self.leave(0)
            await self.turn()
        stuck = [task for task in self.tasks if not task.done()]
        for task in stuck:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        return len(stuck)

    async def _enter(self, at, amount):
        if not self.room.open:
            await self.room.turn()
        self.order.append(at)
        self.inside.append(at)
        self.room.take(at, amount)
        self.most = max(self.most, self.room._used)


async def play(acts):
    messages = Messages()
    does = {"come": messages.come, "leave": messages.leave, "give up": messages.give_up}
    for act, number in acts:
        await messages.turn() if act == "turn" else does[act](number)
    return messages, await messages.end()


@given(acts=ACTS)
def test_nobody_waits_for_ever_and_never_twice_the_room_is_taken(acts):
    """In the order in which they came; and in the end everything is free."""
    messages, stuck = asyncio.run(play(acts))
    assert messages.most < 2 * SIZE
    assert stuck == 0
    assert messages.order == sorted(messages.order)
    assert (messages.room.open, messages.room._used) == (True, 0)
