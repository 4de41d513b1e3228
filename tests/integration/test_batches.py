"""Batches through a real broker and real workers: sent, collected, cut short anywhere, cancelled, expired."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager

import pytest

from backtalk.batches import batch as batches
from backtalk.batches import engine as engines
from backtalk.batches.engine import Engine
from backtalk.batches.ledger import Ledger
from backtalk.batches.state import Status
from backtalk.batches.store import Store
from backtalk.client import Client, Unroutable
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology
from backtalk.wire.codec import validate
from backtalk.wire.jobs import CompletionJob

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def made(pair, tmp_path):
    """Return the maker of batches of so many requests, in progress; `on` is another stage than that with the workers."""
    stores = []

    def make(count, *, on=pair, in_flight=None, **options):
        file = tmp_path / "in.jsonl"
        bodies = (
            {"model": "gpt-4o", "messages": [{"role": "user", "content": f"text {at} end"}]}
            for at in range(count)
        )
        file.write_text(
            "".join(
                f"{json.dumps({'custom_id': f'c{at}', 'body': body})}\n" for at, body in enumerate(bodies)
            )
        )
        store = batches.create(tmp_path / "state", file, namespace=on.names.namespace, **options)
        batches.begun(store, in_flight=in_flight)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def at_work(broker):
    """Return what works on a batch, as one command of the command line does: `async with at_work(store) as engine`."""

    @asynccontextmanager
    async def begin(store, **options):
        again = Store(store.path)
        with batches.working(again) as ours, Ledger(again) as ledger:
            assert ours
            async with Client(broker.url, namespace=store.plan.namespace, patience=10) as client:
                yield Engine(client, again, ledger, **{"idle": 0.3, "grace": 0.3, **options})
        again.close()

    return begin


def ids(path):
    return [json.loads(text)["custom_id"] for text in path.read_text().splitlines()]


def codes(path):
    return {
        line["custom_id"]: line["error"]["code"] for line in map(json.loads, path.read_text().splitlines())
    }


async def test_what_was_sent_is_collected_by_whoever_looks(pair, made, at_work):
    """One command sends and goes; another finds the answers, in order, the failures apart; the queue is gone."""
    pair.model.rule(match="text 3 end", status=400)
    store = made(12)
    async with at_work(store) as engine:
        await engine.send()
    assert store.facts().sent == 12
    await pair.calls(12)
    async with at_work(store) as engine:
        await engine.follow()
    facts = store.facts()
    assert (facts.status, facts.completed, facts.failed) == (Status.COMPLETED, 11, 1)
    assert ids(store.plan.output) == [f"c{at}" for at in range(12) if at != 3]
    assert codes(store.plan.errors) == {"c3": "upstream_rejected"}
    client = await pair.client()
    queue = pair.names.replies(store.plan.stream)
    assert not await client._live.exists(queue)
    assert pair.model.total == 12


async def test_no_more_is_in_flight_than_was_asked_for(pair, made, at_work):
    """What waits for room lies in the file, not in the queue."""
    most = 0

    def look(facts):
        nonlocal most
        most = max(most, facts.sent - facts.done)

    store = made(40, in_flight=4)
    async with at_work(store, on_facts=look) as engine:
        await engine.follow()
    assert store.facts().status is Status.COMPLETED
    assert 1 <= most <= 4


async def test_a_batch_goes_on_wherever_it_stopped(pair, made, at_work, monkeypatch):
    """Sending and collecting are broken off again and again; nothing is lost, nothing is written twice."""
    monkeypatch.setattr(engines, "AT_ONCE", 5)
    store = made(30, in_flight=7)

    class Killed(Exception):
        pass

    def killed_after(count):
        def tell(_facts):
            nonlocal count
            count -= 1
            if count < 0:
                raise Killed

        return tell

    for count in (1, 3, 2):
        with pytest.raises(Killed):
            async with at_work(store, on_facts=killed_after(count)) as engine:
                await engine.follow()
    async with at_work(store) as engine:
        await engine.follow()
    assert store.facts().status is Status.COMPLETED
    assert ids(store.plan.output) == [f"c{at}" for at in range(30)]


async def test_an_answer_is_acknowledged_when_it_is_noted(pair, made, at_work, monkeypatch):
    """A process that dies while it writes leaves the answer to the next."""
    store = made(1)
    async with at_work(store) as engine:
        await engine.send()
        with monkeypatch.context() as patch:
            patch.setattr(engine.store, "note_results", lambda _results: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await engine.collect()
    assert store.plan.output.stat().st_size > 0
    async with at_work(store) as engine:
        await engine.look()
    assert ids(store.plan.output) == ["c0"]


async def test_without_a_worker_nothing_but_the_first_is_tried(stage, made, at_work):
    """No queue takes it: the remedy is told, and the batch can go on later."""
    store = made(3, on=stage)
    async with at_work(store) as engine:
        with pytest.raises(Unroutable, match="start a worker"):
            await engine.follow()
    assert store.facts().sent == 0


async def test_a_cancelled_batch_keeps_what_was_answered(pair, made, at_work):
    """What runs and what waits is answered `cancelled` by the worker; what was never sent needs no answer."""
    pair.model.rule(match="text 0 end")
    pair.model.rule(stall=True)
    store = made(20, in_flight=10)
    async with at_work(store) as engine:
        following = asyncio.create_task(engine.follow())
        await pair.until(lambda: store.facts().completed == 1, what="the first result")
        batches.cancel(store)
        async with asyncio.timeout(10):
            await following
    facts = store.facts()
    assert (facts.status, facts.completed, facts.failed) == (Status.CANCELLED, 1, 19)
    assert ids(store.plan.output) == ["c0"]
    assert codes(store.plan.errors) == {f"c{at}": "batch_cancelled" for at in range(1, 20)}
    assert pair.model.total <= 11


async def test_orders_wait_for_their_answers(pair, made, at_work, monkeypatch):
    """A worker remembers so many and no more: the next go out when the first were followed."""
    monkeypatch.setattr(engines, "AT_ONCE", 2)
    monkeypatch.setattr(engines, "ORDERS_AHEAD", 3)
    store = made(12)
    async with at_work(store) as engine:
        ordered, most = [], 0

        async def cancel(id):
            nonlocal most
            ordered.append(id)
            most = max(most, len(ordered) - engine.store.facts().done)

        store.note(sent=12)
        batches.cancel(store)
        engine.client.cancel = cancel
        withdrawing = asyncio.create_task(engine.withdraw())
        for number in range(12):
            await pair.until(lambda number=number: len(ordered) > number, what="an order")
            engine.ledger.give_up(engine.store.open_lines(0, 1), expired=False)
        await withdrawing
    assert ordered == [f"{store.plan.id}-{at}" for at in range(12)]
    assert most <= 5


async def test_a_batch_can_be_left_without_its_answers(stage, made, at_work):
    """No worker runs that could answer: what has no result by now is cancelled."""
    await declare(stage.url, topology(stage.names), patience=10)
    store = made(3, on=stage)
    async with at_work(store) as engine:
        await engine.send()
        batches.cancel(store)
        await engine.leave()
    assert store.facts().status is Status.CANCELLED
    assert codes(store.plan.errors) == {f"c{at}": "batch_cancelled" for at in range(3)}


async def test_what_is_not_done_in_time_expires(pair, made, at_work):
    """Workers are told the time, and answer."""
    pair.model.rule(match="text 0 end")
    pair.model.rule(stall=True)
    store = made(3, window_seconds=1.0)
    async with at_work(store, grace=5) as engine:
        await engine.follow()
    facts = store.facts()
    assert (facts.status, facts.completed, facts.expired) == (Status.EXPIRED, 1, 2)
    assert codes(store.plan.errors) == {"c1": "batch_expired", "c2": "batch_expired"}


async def test_what_no_worker_meets_in_time_expires_as_well(stage, made, at_work):
    """Sent or not: nothing is waited for that cannot come any more."""
    await declare(stage.url, topology(stage.names), patience=10)
    store = made(4, on=stage, in_flight=2, window_seconds=0.5)
    async with at_work(store) as engine:
        async with asyncio.timeout(10):
            await engine.follow()
    assert store.facts().status is Status.EXPIRED
    assert codes(store.plan.errors) == {f"c{at}": "batch_expired" for at in range(4)}


async def test_groups_end_when_nothing_comes(pair, job):
    """The answers that wait are there at once, and are acknowledged together."""
    client = await pair.client()
    for at in range(3):
        await client.enqueue(validate(job(f"text {at}"), CompletionJob), results="pile", id=f"j{at}")
    await pair.calls(3)
    seen = []
    async with aclosing(client.groups("pile", idle=0.5)) as groups:
        async for group in groups:
            seen += [answer.id for answer in group]
    assert sorted(seen) == ["j0", "j1", "j2"]
    await client.forget("pile")
