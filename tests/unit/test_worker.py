"""The life of a message in a worker, with the transport and the handler played by the test."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

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

    def check(self, reply_to):
        if reply_to == "ours":
            raise invalid("reply_to", "is ours; name another one")

    async def answer(self, answer, *, to, id, key):
        self.answers.append((to.reply_to, answer.status))
        self.all.append((to.reply_to, answer.status))

    def emitter(self, *, to, id):
        async def publish(chunk):
            await asyncio.sleep(0)
            self.all.append((to.reply_to, id, chunk.item))

        return Emitter(publish, self.filed.append)

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


def delivery(acks, *, acked=True, again=False, body=BODY, **properties):
    async def ack():
        acks.append(acked)
        return acked

    envelope = Envelope(body, **{"message_id": "job", "reply_to": "mine", **properties})
    return Delivery(envelope, "queue", redelivered=again, ack=ack)


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

    def __init__(self, answer=None):
        self.answer = answer
        self.told = []

    async def open(self, key):
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
