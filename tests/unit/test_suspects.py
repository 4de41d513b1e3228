"""Messages that have killed workers: how often they are tried, what becomes of them, and how a stop ends it."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.runtime import suspects as module
from backtalk.runtime.child import Ending
from backtalk.runtime.suspects import Suspects
from backtalk.transport.envelope import SUSPECT, Delivery, Envelope
from backtalk.wire.kinds import FORWARD

SETTLED, DIED, NOT_BEGUN = Ending.SETTLED, Ending.DIED, Ending.NOT_BEGUN


class Processes:
    """Processes that end as told, one after the other; the last keeps on. `None` is one that runs until stopped."""

    def __init__(self, *endings, stopped=SETTLED):
        self.endings = list(endings)
        self.stopped = stopped
        self.worked = []
        self.stop_asked = asyncio.Event()
        self.killed = 0

    async def work(self, envelope):
        self.worked.append(envelope)
        ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
        await asyncio.sleep(0)
        if isinstance(ending, Exception):
            raise ending
        if ending is None:
            try:
                await self.stop_asked.wait()
            except asyncio.CancelledError:
                self.killed += 1
                raise
            return self.stopped
        return ending

    def stop(self):
        if self.stopped is not None:
            self.stop_asked.set()


class Outbox:
    def __init__(self):
        self.answers = []
        self.filed = []
        self.back = []

    async def answer(self, answer, *, to, id, key):
        self.answers.append((to.reply_to, answer.status, answer.error.code.value))

    async def file(self, request, error):
        self.filed.append((request.message_id, error.code.value))

    async def hand_back(self, request, queue):
        self.back.append((request.message_id, queue, dict(request.headers)))


class Desk:
    """The suspects of a worker, and all around them; `acks` has every acknowledgement."""

    def __init__(self, *endings, stopped=SETTLED):
        self.processes = Processes(*endings, stopped=stopped)
        self.outbox = Outbox()
        self.acks = []
        self.suspects = Suspects(FORWARD, self.outbox, self.processes)

    def deliver(self, *, acked=True, again=False, id="m"):
        async def ack():
            self.acks.append(acked)
            return acked

        headers = {SUSPECT: 1, "x-delivery-count": 1, "user": "x"}
        envelope = Envelope(b"body", message_id=id, reply_to="mine", headers=headers)
        self.suspects.deliver(Delivery(envelope, "suspect", redelivered=again, ack=ack))

    async def settled(self, count=1):
        async with asyncio.timeout(5):
            while len(self.acks) < count:
                await asyncio.sleep(0)

    async def working(self, count=1):
        async with asyncio.timeout(5):
            while len(self.processes.worked) < count:
                await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)


async def test_a_suspect_that_is_settled_is_acknowledged_and_that_is_all():
    """Its process has answered; nothing of the broker's goes there with it."""
    desk = Desk(SETTLED)
    desk.deliver()
    await desk.settled()
    (given,) = desk.processes.worked
    assert (given.message_id, given.body, given.reply_to, given.headers) == (
        "m",
        b"body",
        "mine",
        {SUSPECT: 1},
    )
    assert (desk.outbox.answers, desk.outbox.filed, desk.outbox.back) == ([], [], [])


async def test_a_suspect_may_kill_one_process():
    """Bad luck is possible: it gets another."""
    desk = Desk(DIED, SETTLED)
    desk.deliver()
    await desk.settled()
    assert (len(desk.processes.worked), desk.outbox.answers) == (2, [])


async def test_a_suspect_that_kills_two_processes_is_buried():
    """Its sender is told, people get the letter, and it comes no more."""
    desk = Desk(DIED)
    desk.deliver()
    await desk.settled()
    assert len(desk.processes.worked) == 2
    assert desk.outbox.answers == [("mine", "failed", "worker_crashed")]
    assert desk.outbox.filed == [("m", "worker_crashed")]
    assert desk.outbox.back == []


@pytest.mark.parametrize("endings", [(NOT_BEGUN,), (DIED, NOT_BEGUN)], ids=str)
async def test_a_process_that_never_began_is_not_the_suspects_fault(endings):
    """It goes back to its queue, a suspect still, for a worker that can start one."""
    desk = Desk(*endings)
    desk.deliver()
    await desk.settled()
    assert desk.outbox.back == [("m", "suspect", {SUSPECT: 1})]
    assert desk.outbox.answers == []


async def test_a_redelivery_joins_the_process_at_work():
    """A lost connection brings the message again; one process works on it, and both deliveries are settled."""
    desk = Desk(None)
    desk.deliver(acked=False)
    await desk.working()
    desk.deliver(again=True)
    await asyncio.sleep(0)
    desk.processes.stop_asked.set()
    await desk.settled(2)
    assert (len(desk.processes.worked), desk.acks) == (1, [False, True])


async def test_whatever_goes_wrong_does_not_hold_up_the_next_suspect():
    """A message that is neither settled nor given back would keep the only place there is."""
    desk = Desk(OSError("too many open files"), SETTLED)
    desk.deliver(id="first")
    async with asyncio.timeout(1):
        while not (desk.acks or desk.outbox.back):
            await asyncio.sleep(0.01)
    assert [id for id, _, _ in desk.outbox.back] == ["first"]


# ---- the drain


async def test_a_drain_lets_the_process_at_work_settle():
    """It is asked to stop, and has its last words."""
    desk = Desk(None)
    desk.deliver()
    await desk.working()
    await desk.suspects.drain(5)
    assert (desk.acks, desk.outbox.answers, desk.processes.killed) == ([True], [], 0)


async def test_a_process_that_dies_of_the_drain_is_no_death_of_the_suspects():
    """It is handed back, and nobody starts another process for it."""
    desk = Desk(None, stopped=DIED)
    desk.deliver()
    await desk.working()
    await desk.suspects.drain(5)
    assert (len(desk.processes.worked), desk.outbox.answers) == (1, [])
    assert [id for id, _, _ in desk.outbox.back] == ["m"]
    assert desk.acks == [True]


async def test_a_second_process_that_dies_of_the_drain_buries_nobody():
    """The suspect killed one of two; what ended the other was the worker."""
    desk = Desk(DIED, None, stopped=DIED)
    desk.deliver()
    await desk.working(2)
    await desk.suspects.drain(5)
    assert (desk.outbox.answers, [id for id, _, _ in desk.outbox.back]) == ([], ["m"])


async def test_a_process_that_outlasts_the_drain_is_killed_and_its_message_goes_back():
    """Unacknowledged: the broker gives it to another worker."""
    desk = Desk(None, stopped=None)
    desk.deliver()
    await desk.working()
    await desk.suspects.drain(0.01)
    assert (desk.processes.killed, desk.acks, desk.outbox.back, desk.outbox.answers) == (1, [], [], [])


async def test_a_suspect_that_comes_during_the_drain_is_handed_back():
    """No process is started for it, and nobody waits for the pause."""
    desk = Desk(SETTLED)
    await desk.suspects.drain(5)
    desk.deliver()
    await desk.settled()
    assert (desk.processes.worked, [id for id, _, _ in desk.outbox.back]) == ([], ["m"])


async def test_a_drain_does_not_wait_for_the_pause_before_the_next_process(monkeypatch):
    """A process that cannot begin is waited for a moment, but not by a worker that stops."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", 3600)
    desk = Desk(NOT_BEGUN)
    desk.deliver()
    await desk.working()
    await asyncio.sleep(0.01)
    assert desk.outbox.back == []
    async with asyncio.timeout(5):
        await desk.suspects.drain(60)
    assert (desk.acks, [id for id, _, _ in desk.outbox.back]) == ([True], ["m"])


async def test_with_nothing_at_work_a_drain_is_over_at_once():
    """However much time it has."""
    async with asyncio.timeout(1):
        await Desk(SETTLED).suspects.drain(3600)
