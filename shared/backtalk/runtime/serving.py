"""What a worker process does between its start and its end: consume, work, drain; or work on one message only."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic

from backtalk.runtime.bounds import BURIALS_AT_ONCE
from backtalk.runtime.child import BEGUN, SETTLED, Child, Command, end_with, give_way, say
from backtalk.runtime.guard import Guard
from backtalk.runtime.handler import Handler
from backtalk.runtime.handover import read
from backtalk.runtime.intake import Intake
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.openai_model import OpenAIModel
from backtalk.runtime.orders import Orders
from backtalk.runtime.progress import Progress
from backtalk.runtime.replies import Replies
from backtalk.runtime.settings import Settings
from backtalk.runtime.settle import Patience
from backtalk.runtime.store import NoStore, Store
from backtalk.runtime.suspects import Suspects
from backtalk.runtime.telemetry import log
from backtalk.runtime.tracing import NO_TRACING, Tracing
from backtalk.runtime.undertaker import Undertaker
from backtalk.runtime.valve import Valve
from backtalk.runtime.worker import LAST_WORDS_SECONDS, Worker
from backtalk.transport.envelope import Delivery, TransportError
from backtalk.transport.rabbitmq import Broker, check, connect, declare
from backtalk.transport.topology import Names, topology
from backtalk.wire.kinds import AnswerT, Kind, RequestT

# a process of its own for a message takes this long to begin and to end, at most
CHILD_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Bench(Generic[RequestT, AnswerT]):
    """All that is open while messages are worked on."""

    broker: Broker
    names: Names
    replies: Replies
    worker: Worker[RequestT, AnswerT]
    valve: Valve
    store: Store


@asynccontextmanager
async def bench(
    kind: Kind[RequestT, AnswerT],
    handle: Handler[RequestT, AnswerT],
    settings: Settings,
    store: Store | None = None,
    *,
    waits: bool = True,
    metrics: Metrics | None = None,
    tracing: Tracing = NO_TRACING,
) -> AsyncIterator[Bench[RequestT, AnswerT]]:
    """Open everything; the `store` is that of the settings if none is given."""
    counts = metrics or Metrics(kind.role)
    valve = Valve(lambda: not adapter.closed)
    adapter = OpenAIModel(settings.named_endpoints(), valve.changed, counts, tracing)
    names = Names(settings.namespace)
    url = settings.amqp_url.get_secret_value()
    async with (
        adapter,
        store or _store(settings, kind.role) as remembered,
        connect(url, name=f"backtalk {kind.role}-worker", patience=settings.connect_seconds) as broker,
    ):
        counts.watch_store(remembered.told)
        replies = Replies(broker, names, kind, counts, tracing)
        worker = Worker(
            kind,
            handle,
            adapter=adapter,
            store=remembered,
            replies=replies,
            budget=settings.job_budget_seconds,
            patience=Patience(settings.max_attempts, settings.max_age_seconds, waits),
            intake=Intake(kind, settings.limits(), settings.max_bytes_at_once, settings.policy),
            metrics=counts,
            tracing=tracing,
        )
        yield Bench(broker, names, replies, worker, valve, remembered)


async def serve(
    kind: Kind[RequestT, AnswerT],
    handle: Handler[RequestT, AnswerT],
    settings: Settings,
    *,
    child: Command,
    stop: asyncio.Event,
    progress: Progress,
    ready: Callable[[], None] = lambda: None,
    store: Store | None = None,
    metrics: Metrics | None = None,
    tracing: Tracing = NO_TRACING,
) -> None:
    """Consume until told to stop, then drain; suspects are worked on in processes that `child` starts."""
    names = Names(settings.namespace)
    agree = declare if settings.topology == "declare" else check
    await agree(settings.amqp_url.get_secret_value(), topology(names), patience=settings.connect_seconds)
    metrics = metrics or Metrics(kind.role)
    metrics.watch_consumer(progress.conditions)
    async with bench(kind, handle, settings, store, metrics=metrics, tracing=tracing) as at:
        progress.broker, progress.valve = at.broker, at.valve
        longest = settings.job_budget_seconds + settings.drain_seconds + CHILD_SECONDS
        suspects = Suspects(kind, at.replies, Child(child, longest), metrics)
        undertaker = Undertaker(kind, at.replies, metrics)
        consume = partial(at.broker.consume, patience=settings.connect_seconds)
        buried = await consume(names.crashed(kind.role), undertaker.deliver, prefetch=BURIALS_AT_ONCE)
        worked_on = (
            await consume(names.work(kind.role), at.worker.deliver, prefetch=settings.concurrency),
            await consume(names.suspect(kind.role), suspects.deliver, prefetch=1),
        )
        consumed = (names.work(kind.role), names.suspect(kind.role), names.crashed(kind.role))
        guard = Guard(at.broker, topology(names), consumed, makes=settings.topology == "declare")
        progress.guard = guard
        async with _ears(at, settings), guard.watching():
            async with at.valve.on(worked_on):
                _calm_collector()
                log.info("ready")
                ready()
                await stop.wait()
                progress.draining = True
                log.info("draining", seconds=settings.drain_seconds)
            with suppress(TransportError):
                await buried.pause()
            await asyncio.gather(
                at.worker.drain(settings.drain_seconds),
                # its process has last words as well, and begins and ends
                suspects.drain(settings.drain_seconds + 2 * LAST_WORDS_SECONDS),
            )
    log.info("stopped", **at.store.told())


async def work_alone(
    kind: Kind[RequestT, AnswerT],
    handle: Handler[RequestT, AnswerT],
    settings: Settings,
    *,
    stop: asyncio.Event,
    tracing: Tracing = NO_TRACING,
) -> None:
    """Work on the one message that the worker hands over, and tell it when that is settled."""
    give_way()
    source = sys.stdin.buffer
    async with bench(kind, handle, settings, waits=False, tracing=tracing) as at:
        envelope = read(source)
        end_with(source)
        settled = asyncio.Event()

        async def ack() -> bool:
            say(SETTLED)
            settled.set()
            return True

        async with _ears(at, settings):
            say(BEGUN)
            at.worker.deliver(Delivery(envelope, at.names.suspect(kind.role), redelivered=False, ack=ack))
            await _first(settled.wait(), stop.wait())
            await at.worker.drain(settings.drain_seconds)


def _ears(at: Bench[RequestT, AnswerT], settings: Settings) -> AbstractAsyncContextManager[None]:
    """Have the worker follow what all are told."""
    orders = Orders(at.worker, at.store)
    return at.broker.hearing(
        at.names.control,
        lambda: at.names.ear(uuid.uuid4().hex),
        orders.hear,
        patience=settings.connect_seconds,
    )


async def _first(*events: Any) -> None:
    waits = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def on_signals() -> asyncio.Event:
    """Return the event that the first signal sets; a second one ends the process at once."""
    stop = asyncio.Event()

    def receive(number: int) -> None:
        if stop.is_set():
            # what is not acknowledged goes back to the queue when the connection breaks
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, receive, number)
    return stop


def _store(settings: Settings, role: str) -> Store:
    if settings.result_store is None:
        return NoStore()
    from backtalk.runtime.redis_store import RedisStore  # noqa: PLC0415  6 MiB that only a store needs

    return RedisStore(
        settings.result_store.get_secret_value(),
        prefix=f"{settings.namespace}:{role}",
        seconds=settings.result_seconds,
    )


def _calm_collector() -> None:
    """Let the collector look less often, and never again at what was there at the start.

    Hundreds of jobs in flight are young for long, and it walks them all in vain: a sixth of the time at 500 in flight.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
