"""The life of a message in a worker, with the transport and the handler played by the test."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from backtalk.runtime.emit import Emitter
from backtalk.runtime.model import Completion
from backtalk.runtime.settle import Patience
from backtalk.runtime.store import NoStore
from backtalk.runtime.worker import Worker
from backtalk.transport.envelope import ATTEMPT, Delivery, Envelope
from backtalk.wire.chunk import CompletionChunk
from backtalk.wire.errors import Code, Unavailable, invalid
from backtalk.wire.jobs import CompletionResult
from backtalk.wire.kinds import FORWARD

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()


class Outbox:
    """The outgoing side: keeps what was sent and filed, the answers and `all` in its order."""

    def __init__(self):
        self.all = []
        self.answers = []
        self.filed = []
        self.rungs = []
        self.isolated = []
        self.back = []
        self.troubles = []

    def check(self, reply_to):
        if reply_to == "ours":
            raise invalid("reply_to", "is ours; name another one")

    async def answer(self, answer, *, to, id, key):
        if self.troubles:
            raise self.troubles.pop()
        self.answers.append((to.reply_to, answer.status))
        self.all.append((to.reply_to, answer.status))

    def emitter(self, *, to, id):
        async def publish(chunk):
            await asyncio.sleep(0)
            self.all.append((to.reply_to, id, chunk.item))

        return Emitter(publish, self.filed.append)

    def isolates(self, delivery):
        return delivery.suspicious

    async def isolate(self, request):
        if self.troubles:
            raise self.troubles.pop()
        self.isolated.append(request.message_id)

    async def hand_back(self, request, queue):
        self.back.append((request.message_id, queue))

    async def rung(self, request, name):
        self.rungs.append((request.attempt, name))

    async def file(self, request, error):
        self.filed.append(error.code)


class Handler:
    """Completes every job when told to, after as many chunks as it `emits`, and counts."""

    emits = 0

    def __init__(self, *failures):
        self.calls = 0
        self.go = asyncio.Event()
        self.failures = list(failures)

    async def __call__(self, request, /, *, model, emit):
        self.calls += 1
        await self.go.wait()
        for item in range(self.emits):
            emit(CompletionChunk(run="r", item=item, choice=0))
        if self.failures:
            raise self.failures.pop()
        return CompletionResult(id=request.id, status="completed")


def stage(*failures):
    outbox, handler = Outbox(), Handler(*failures)
    worker = Worker(
        FORWARD,
        handler,
        adapter=None,
        store=NoStore(),
        replies=outbox,
        budget=60,
        patience=Patience(attempts=5, age=60),
    )
    return worker, handler, outbox


def delivery(acks, *, acked=True, arrived=True, again=False, body=BODY, **properties):
    async def ack():
        acks.append(acked)
        return acked

    async def arrive():
        return arrived

    envelope = Envelope(body, **{"message_id": "job", "reply_to": "mine", **properties})
    return Delivery(envelope, "queue", redelivered=again, ack=ack, acked=arrive)


async def begun(handler):
    """Let every delivery so far begin, then let the handler go on."""
    for _ in range(5):
        await asyncio.sleep(0)
    handler.go.set()


async def settled(acks, count):
    async with asyncio.timeout(5):
        while len(acks) < count:
            await asyncio.sleep(0)


async def test_a_redelivery_joins_work_in_progress():
    """One call of the handler; the address is answered once, and both deliveries are acknowledged."""
    worker, handler, outbox = stage()
    acks = []
    worker.deliver(delivery(acks, acked=False))
    worker.deliver(delivery(acks, again=True))
    await begun(handler)
    await settled(acks, 2)
    assert (handler.calls, outbox.answers) == (1, [("mine", "completed")])


async def test_a_redelivery_finds_finished_work_whose_acknowledgement_was_lost():
    """What was answered over a dying channel is neither done nor answered again."""
    worker, handler, outbox = stage()
    acks = []
    handler.go.set()
    worker.deliver(delivery(acks, acked=False))
    await settled(acks, 1)
    worker.deliver(delivery(acks, again=True))
    await settled(acks, 2)
    assert (handler.calls, outbox.answers) == (1, [("mine", "completed")])


async def test_a_repeat_after_the_acknowledgement_is_work_of_its_own():
    """Nothing is remembered once a message is settled."""
    worker, handler, outbox = stage()
    acks = []
    handler.go.set()
    for count in (1, 2):
        worker.deliver(delivery(acks))
        await settled(acks, count)
    assert (handler.calls, len(outbox.answers)) == (2, 2)


async def test_each_address_is_answered():
    """Two senders of the same work hear of it both."""
    worker, handler, outbox = stage()
    acks = []
    worker.deliver(delivery(acks, reply_to="one"))
    worker.deliver(delivery(acks, reply_to="two"))
    await begun(handler)
    await settled(acks, 2)
    assert handler.calls == 1
    assert sorted(outbox.answers) == [("one", "completed"), ("two", "completed")]


async def test_a_wrong_envelope_spoils_nobody_elses_work():
    """Type and address are the sender's own: the same work under good ones is done."""
    worker, handler, outbox = stage()
    acks = []
    worker.deliver(delivery(acks, reply_to="ours"))
    worker.deliver(delivery(acks, type="nonsense", reply_to="odd"))
    worker.deliver(delivery(acks, content_encoding="gzip", reply_to="packed"))
    worker.deliver(delivery(acks))
    await begun(handler)
    await settled(acks, 4)
    assert handler.calls == 1
    assert sorted(outbox.answers) == [
        ("mine", "completed"),
        ("odd", "failed"),
        ("ours", "failed"),
        ("packed", "failed"),
    ]


async def test_whatever_breaks_the_handler_is_answered_and_filed():
    """Its sender waits, and so does everybody who joined."""
    worker, handler, outbox = stage(RecursionError("too deep"))
    acks = []
    worker.deliver(delivery(acks, reply_to="one"))
    worker.deliver(delivery(acks, reply_to="two"))
    await begun(handler)
    await settled(acks, 2)
    assert sorted(outbox.answers) == [("one", "failed"), ("two", "failed")]
    assert outbox.filed == ["internal", "internal"]


async def test_a_repeat_that_comes_before_the_acknowledgement_has_arrived_is_work_of_its_own():
    """It may be one that was put off or handed back a moment ago, or sent again because something failed."""
    worker, handler, outbox = stage()
    acks, arrived = [], asyncio.Event()
    first = delivery(acks)

    async def late():
        await arrived.wait()
        return True

    handler.go.set()
    worker.deliver(replace(first, acked=late))
    await settled(acks, 1)
    worker.deliver(delivery(acks))
    await settled(acks, 2)
    arrived.set()
    assert (handler.calls, outbox.answers) == (2, [("mine", "completed")] * 2)


async def test_a_repeat_that_was_sent_while_an_answer_is_kept_is_answered():
    """It is a message of its own: it costs nothing, and its sender waits."""
    worker, handler, outbox = stage()
    acks = []
    handler.go.set()
    worker.deliver(delivery(acks, acked=False))
    await settled(acks, 1)
    worker.deliver(delivery(acks))
    await settled(acks, 2)
    assert (handler.calls, outbox.answers) == (1, [("mine", "completed")] * 2)


class Down:
    """An endpoint that is away."""

    async def complete(self, endpoint, body, owner, listener):
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "away")


async def test_what_comes_back_from_a_rung_is_worked_on_although_an_acknowledgement_was_lost():
    """The copy on the rung is the message now: to take it for a redelivery would lose it."""
    outbox, calls, acks = Outbox(), [], []

    async def ask(request, /, *, model, emit):
        calls.append(request.id)
        await model.complete("openai", {}, place="here")

    patience = Patience(attempts=2, age=60)
    worker = Worker(
        FORWARD, ask, adapter=Down(), store=NoStore(), replies=outbox, budget=60, patience=patience
    )
    worker.deliver(delivery(acks, acked=False))
    await settled(acks, 1)
    worker.deliver(delivery(acks, headers={ATTEMPT: 1}))
    await settled(acks, 2)
    assert (len(calls), outbox.rungs, outbox.answers) == (2, [(1, "5s")], [("mine", "failed")])


# ---- partial output


async def test_partial_output_precedes_the_answer():
    """Every chunk is out before the answer is, and under the id of the job."""
    worker, handler, outbox = stage()
    acks = []
    handler.emits = 3
    worker.deliver(delivery(acks))
    await begun(handler)
    await settled(acks, 1)
    assert outbox.all == [*(("mine", "job", item) for item in range(3)), ("mine", "completed")]


async def test_partial_output_of_what_fails_precedes_the_answer_too():
    """However the handler ended."""
    worker, handler, outbox = stage(RecursionError("too deep"))
    acks = []
    handler.emits = 2
    worker.deliver(delivery(acks))
    await begun(handler)
    await settled(acks, 1)
    assert outbox.all == [*(("mine", "job", item) for item in range(2)), ("mine", "failed")]


async def test_partial_output_goes_to_the_first_address():
    """Who joins the work later hears of the end."""
    worker, handler, outbox = stage()
    acks = []
    handler.emits = 2
    worker.deliver(delivery(acks, reply_to="one"))
    worker.deliver(delivery(acks, reply_to="two"))
    await begun(handler)
    await settled(acks, 2)
    assert outbox.all[:2] == [("one", "job", 0), ("one", "job", 1)]
    assert sorted(outbox.all[2:]) == [("one", "completed"), ("two", "completed")]


async def test_what_is_emitted_after_the_answer_is_nothing():
    """A task that a handler forgot disturbs nobody."""
    outbox, kept, acks = Outbox(), [], []

    async def keep(request, /, *, model, emit):
        kept.append(emit)
        return CompletionResult(id=request.id, status="completed")

    patience = Patience(attempts=5, age=60)
    worker = Worker(
        FORWARD, keep, adapter=None, store=NoStore(), replies=outbox, budget=60, patience=patience
    )
    worker.deliver(delivery(acks))
    await settled(acks, 1)
    kept[0](CompletionChunk(run="r", item=0, choice=0))
    await asyncio.sleep(0.01)
    assert outbox.all == [("mine", "completed")]


# ---- the result store


class Shelf:
    """A store with one record, which is also what it opens; `told` is what happened to it, in order."""

    safe = True
    cancelled = False

    def __init__(self, answer=None):
        self.answer = answer
        self.told = []

    async def open(self, key, id):
        self.told.append("open")
        return self

    def entry(self, endpoint, body, place):
        return place.encode()

    def recall(self, entry):
        return None

    async def remember(self, entry, completion):
        self.told.append("remember")

    async def finish(self, answer):
        self.told.append("finish")
        self.answer = answer

    async def close(self):
        self.told.append("close")


def shelved(handle, shelf, outbox, adapter=None):
    return Worker(
        FORWARD,
        handle,
        adapter=adapter,
        store=shelf,
        replies=outbox,
        budget=60,
        patience=Patience(attempts=5, age=60),
    )


def answering(status):
    async def handle(request, /, *, model, emit):
        return CompletionResult(id=request.id, status=status)

    return handle


async def test_an_answer_that_is_remembered_is_sent_again():
    """The handler is not asked."""
    shelf, outbox, acks = Shelf(), Outbox(), []
    shelved(answering("completed"), shelf, outbox).deliver(delivery(acks))
    await settled(acks, 1)
    handler = Handler()
    shelved(handler, shelf, outbox).deliver(delivery(acks, reply_to="other"))
    await settled(acks, 2)
    assert (handler.calls, outbox.answers) == (0, [("mine", "completed"), ("other", "completed")])
    assert shelf.told == ["open", "finish", "close", "open", "close"]


@pytest.mark.parametrize("status", ["partial", "failed"])
async def test_an_answer_with_failures_is_not_remembered(status):
    """Sent again, what failed is tried again."""
    shelf, outbox, acks = Shelf(), Outbox(), []
    shelved(answering(status), shelf, outbox).deliver(delivery(acks))
    await settled(acks, 1)
    assert (shelf.told, outbox.answers) == (["open", "close"], [("mine", status)])


async def test_an_answer_that_cannot_be_read_is_none():
    """One of another version, for example: the work is done anew."""
    shelf, outbox, acks = Shelf(b'{"id": 5}'), Outbox(), []
    shelved(answering("completed"), shelf, outbox).deliver(delivery(acks))
    await settled(acks, 1)
    assert (shelf.told, outbox.answers) == (["open", "finish", "close"], [("mine", "completed")])


async def test_a_large_answer_is_remembered_compressed():
    """And read like any other."""
    shelf, outbox, acks = Shelf(), Outbox(), []

    async def handle(request, /, *, model, emit):
        completion = {"choices": [{"message": {"content": "x" * 100_000}}]}
        return CompletionResult(id=request.id, status="completed", completions=(completion,))

    shelved(handle, shelf, outbox).deliver(delivery(acks))
    await settled(acks, 1)
    assert len(shelf.answer) < 1000
    shelved(None, shelf, outbox).deliver(delivery(acks))
    await settled(acks, 2)
    assert outbox.answers == [("mine", "completed")] * 2


@pytest.mark.parametrize(
    "properties",
    [{"body": b"{"}, {"type": "nonsense"}, {"reply_to": "ours"}],
    ids=lambda given: next(iter(given)),
)
async def test_a_message_that_cannot_be_understood_touches_no_store(properties):
    """It costs nothing to refuse it again."""
    shelf, outbox, acks = Shelf(), Outbox(), []
    shelved(answering("completed"), shelf, outbox).deliver(delivery(acks, **properties))
    await settled(acks, 1)
    assert (shelf.told, [status for _, status in outbox.answers]) == ([], ["failed"])


async def test_a_message_whose_deadline_had_passed_touches_no_store():
    """There is no time left to look."""
    late = {**json.loads(BODY), "backtalk": {"deadline": "2001-01-01T00:00:00Z"}}
    shelf, outbox, acks = Shelf(), Outbox(), []
    shelved(answering("completed"), shelf, outbox).deliver(delivery(acks, body=json.dumps(late).encode()))
    await settled(acks, 1)
    assert (shelf.told, outbox.answers) == ([], [("mine", "failed")])


class Flaky:
    """An endpoint that answers once."""

    calls = 0

    async def complete(self, endpoint, body, owner, listener):
        self.calls += 1
        if self.calls > 1:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "away")
        return Completion({"choices": [{"message": {"content": "fine"}}]})


async def twice(request, /, *, model, emit):
    await model.complete("openai", {}, place="one")
    await model.complete("openai", {}, place="two")


@pytest.mark.parametrize(("safe", "rungs"), [(True, [(1, "5s")]), (False, [])])
async def test_paid_work_is_put_off_only_when_all_of_it_is_remembered(safe, rungs):
    """The record is closed first, so that the next worker need not wait for the claim to run out."""
    shelf, outbox, acks = Shelf(), Outbox(), []
    shelf.safe = safe
    worker = shelved(twice, shelf, outbox, adapter=Flaky())
    worker.deliver(delivery(acks))
    await settled(acks, 1)
    assert (outbox.rungs, len(outbox.answers)) == (rungs, 0 if rungs else 1)
    assert shelf.told == ["open", "remember", "close"]


async def test_a_whole_answer_is_sent_whatever_failed_on_the_way():
    """A call that was done without asks for no other try."""

    async def handle(request, /, *, model, emit):
        await model.complete("openai", {}, place="one")
        with suppress(Unavailable):
            await model.complete("openai", {}, place="two")
        return CompletionResult(id=request.id, status="completed")

    shelf, outbox, acks = Shelf(), Outbox(), []
    shelved(handle, shelf, outbox, adapter=Flaky()).deliver(delivery(acks))
    await settled(acks, 1)
    assert (outbox.rungs, outbox.answers) == ([], [("mine", "completed")])


async def test_what_breaks_the_handler_lets_go_of_the_work():
    """Whatever way it ends."""
    shelf, outbox, acks = Shelf(), Outbox(), []
    handler = Handler(RecursionError("too deep"))
    handler.go.set()
    shelved(handler, shelf, outbox).deliver(delivery(acks))
    await settled(acks, 1)
    assert shelf.told == ["open", "close"]


async def test_what_has_killed_two_workers_is_passed_on_before_anybody_looks_into_it():
    """It is isolated and acknowledged; no handler sees it, and nobody is answered yet."""
    worker, handler, outbox = stage()
    acks = []
    worker.deliver(delivery(acks, again=True, body=b"\xff", headers={"x-delivery-count": 2}))
    await settled(acks, 1)
    assert (outbox.isolated, outbox.answers, handler.calls) == (["job"], [], 0)


async def test_work_in_progress_is_no_suspect():
    """A connection that is lost twice brings a message three times; its work goes on here."""
    worker, handler, outbox = stage()
    acks = []
    worker.deliver(delivery(acks, acked=False))
    worker.deliver(delivery(acks, again=True, headers={"x-delivery-count": 2}))
    await begun(handler)
    await settled(acks, 2)
    assert (handler.calls, outbox.isolated, outbox.answers) == (1, [], [("mine", "completed")])


@pytest.mark.parametrize(
    ("again", "headers", "suspicious"),
    [
        (True, {"x-delivery-count": 1}, False),
        (True, {"x-delivery-count": 2}, True),
        # a sender may have made it up
        (False, {"x-delivery-count": 9}, False),
        (True, {"x-delivery-count": "9"}, False),
        # back from a rung, a suspect still
        (False, {"x-backtalk-suspect": 1}, True),
    ],
)
def test_a_message_is_a_suspect_by_what_the_broker_counted(again, headers, suspicious):
    """The count is believed on a redelivery only; the mark of an earlier worker always."""
    assert delivery([], again=again, headers=headers).suspicious is suspicious


async def test_a_suspect_that_could_not_be_passed_on_is_passed_on_when_it_comes_again():
    """Nothing is acknowledged before, and nobody looks into it meanwhile."""
    worker, handler, outbox = stage()
    acks = []
    outbox.troubles = [RuntimeError("lost")]
    suspect = {"again": True, "headers": {"x-delivery-count": 2}}
    worker.deliver(delivery(acks, **suspect))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (acks, outbox.isolated) == ([], [])
    worker.deliver(delivery(acks, **suspect))
    await settled(acks, 1)
    assert (outbox.isolated, handler.calls) == (["job"], 0)


async def test_an_answer_that_could_not_be_sent_is_sent_when_its_message_comes_again():
    """The work is done by then, and is not done twice."""
    worker, handler, outbox = stage()
    acks = []
    outbox.troubles = [RuntimeError("lost")]
    handler.go.set()
    worker.deliver(delivery(acks))
    async with asyncio.timeout(5):
        while outbox.troubles:
            await asyncio.sleep(0)
    worker.deliver(delivery(acks, again=True))
    await settled(acks, 1)
    assert (handler.calls, outbox.answers) == (1, [("mine", "completed")])


async def test_a_redelivery_finds_finished_work_whose_acknowledgement_was_written_and_lost():
    """A network that fell silent takes what is written and tells nobody: only the redelivery shows it."""
    worker, handler, outbox = stage()
    acks = []
    handler.go.set()
    worker.deliver(delivery(acks, arrived=False))
    await settled(acks, 1)
    worker.deliver(delivery(acks, again=True))
    await settled(acks, 2)
    assert (handler.calls, outbox.answers) == (1, [("mine", "completed")])


# ---- what senders want no more


class Asks:
    """A handler that asks an endpoint once, for as long as it takes; `asked` has the ids."""

    def __init__(self):
        self.asked = []
        self.endpoint = asyncio.Event()

    async def complete(self, endpoint, body, owner, listener):
        await self.endpoint.wait()
        return Completion({"choices": [{"message": {"content": "fine"}}]})

    async def __call__(self, request, /, *, model, emit):
        self.asked.append(request.id)
        await model.complete("openai", {}, place="here")
        return CompletionResult(id=request.id, status="completed")

    async def begun(self, count):
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                await asyncio.sleep(0)


def asking(shelf=None):
    asks, outbox = Asks(), Outbox()
    return shelved(asks, shelf or NoStore(), outbox, adapter=asks), asks, outbox


async def test_cancelling_ends_the_work_of_that_id_and_of_no_other():
    """Its call is given up and its sender told; the neighbour goes on."""
    worker, asks, outbox = asking()
    acks = []
    for id in ("unwanted", "wanted"):
        worker.deliver(delivery(acks, message_id=id, reply_to=id))
    await asks.begun(2)
    worker.cancel("unwanted")
    worker.cancel("unknown")
    await settled(acks, 1)
    assert outbox.answers == [("unwanted", "failed")]
    asks.endpoint.set()
    await settled(acks, 2)
    assert outbox.answers == [("unwanted", "failed"), ("wanted", "completed")]
    assert (outbox.rungs, outbox.filed, outbox.back) == ([], [], [])


async def test_what_was_cancelled_before_it_came_is_not_begun():
    """It is answered at once, whichever body comes under that id, and however often."""
    worker, asks, outbox = asking()
    acks = []
    worker.cancel("job")
    worker.deliver(delivery(acks))
    await settled(acks, 1)
    worker.deliver(delivery(acks, body=BODY + b" "))
    await settled(acks, 2)
    assert (asks.asked, outbox.answers) == ([], [("mine", "failed")] * 2)


async def test_all_who_wait_for_cancelled_work_are_told():
    """One piece of work, two senders of it."""
    worker, asks, outbox = asking()
    acks = []
    worker.deliver(delivery(acks, reply_to="one"))
    worker.deliver(delivery(acks, reply_to="two"))
    await asks.begun(1)
    worker.cancel("job")
    await settled(acks, 2)
    assert sorted(outbox.answers) == [("one", "failed"), ("two", "failed")]


async def test_what_another_worker_was_told_to_cancel_is_known_by_the_store():
    """The record says so, and is let go of."""
    shelf = Shelf()
    shelf.cancelled = True
    worker, asks, outbox = asking(shelf)
    acks = []
    worker.deliver(delivery(acks))
    await settled(acks, 1)
    assert (asks.asked, outbox.answers, shelf.told) == ([], [("mine", "failed")], ["open", "close"])


async def test_an_answer_that_is_there_is_given_although_it_was_cancelled():
    """What was finished before stays finished."""
    shelf, outbox, acks = Shelf(), Outbox(), []
    shelved(answering("completed"), shelf, outbox).deliver(delivery(acks))
    await settled(acks, 1)
    shelf.cancelled = True
    worker, asks, outbox = asking(shelf)
    worker.cancel("job")
    worker.deliver(delivery(acks))
    await settled(acks, 2)
    assert (asks.asked, outbox.answers) == ([], [("mine", "completed")])


@pytest.mark.parametrize("first", ["cancel", "drain"])
async def test_cancelled_and_stopped_counts_as_what_came_first(first):
    """What its sender wants no more is answered, and not handed back to be begun anew; what is going back, goes."""
    worker, asks, outbox = asking()
    acks = []
    worker.deliver(delivery(acks))
    await asks.begun(1)
    if first == "cancel":
        worker.cancel("job")
    draining = asyncio.ensure_future(worker.drain(0))
    await settled(acks, 1)
    worker.cancel("job")
    await draining
    if first == "cancel":
        assert (outbox.answers, outbox.back) == ([("mine", "failed")], [])
    else:
        assert (outbox.answers, outbox.back) == ([], [("job", "queue")])


async def test_a_cancelled_wait_for_the_store_is_answered():
    """Another worker had the message; its sender does not wait until that one is done."""

    class Held(Shelf):
        async def open(self, key, id):
            self.told.append("open")
            await asyncio.Event().wait()

    shelf = Held()
    worker, asks, outbox = asking(shelf)
    acks = []
    worker.deliver(delivery(acks))
    async with asyncio.timeout(5):
        while not shelf.told:
            await asyncio.sleep(0)
    worker.cancel("job")
    await settled(acks, 1)
    assert (asks.asked, outbox.answers) == ([], [("mine", "failed")])


# ---- the drain


async def test_a_drain_waits_for_what_is_going_on_and_hands_back_what_lasts_longer():
    """Both are settled when it is over."""
    worker, asks, outbox = asking()
    acks = []
    worker.deliver(delivery(acks, message_id="lasts"))
    await asks.begun(1)
    await worker.drain(0.01)
    assert (outbox.back, outbox.answers, acks) == ([("lasts", "queue")], [], [True])


async def test_what_is_delivered_after_the_drain_goes_back():
    """A delivery may be on its way when the consumer is cancelled."""
    worker, asks, outbox = asking()
    acks = []
    await worker.drain(0)
    worker.deliver(delivery(acks))
    await settled(acks, 1)
    assert (asks.asked, outbox.back, outbox.answers) == ([], [("job", "queue")], [])
