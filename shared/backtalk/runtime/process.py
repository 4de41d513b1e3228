"""A worker as a process: settings, signals, exit codes, and the order in which things open and close."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

import uvloop
from pydantic import ValidationError

from backtalk.runtime.openai_model import OpenAIModel
from backtalk.runtime.replies import Replies
from backtalk.runtime.settings import Settings, explain, table
from backtalk.runtime.settle import Patience
from backtalk.runtime.store import NoStore, Store
from backtalk.runtime.telemetry import configure, log
from backtalk.runtime.undertaker import Undertaker
from backtalk.runtime.worker import Handler, Worker
from backtalk.transport.envelope import BrokerUnreachable, TopologyMismatch
from backtalk.transport.rabbitmq import connect, declare
from backtalk.transport.topology import Names, topology
from backtalk.wire.kinds import AnswerT, Kind, RequestT

DRAINED: Final = 0
BAD_SETTINGS: Final = 2
BAD_TOPOLOGY: Final = 3
NO_BROKER: Final = 4
_BURIALS_AT_ONCE: Final = 8

_EPILOG: Final = """\
settings (environment variables) [default]:
{table}
  OPENAI_BASE_URL, OPENAI_API_KEY the default endpoint, named "openai"

exit codes:
  0 drained after SIGTERM or SIGINT    2 bad settings    3 a queue exists with other arguments
  4 no broker    128 + n stopped at once by a second signal n

examples:
  OPENAI_BASE_URL=http://localhost:8000/v1 {role}-worker
  BACKTALK_AMQP_URL=amqp://user:password@broker/ BACKTALK_LOG_FORMAT=console {role}-worker
"""


def main(
    kind: Kind[RequestT, AnswerT], handler: Callable[[Settings], Handler[RequestT, AnswerT]], purpose: str
) -> int:
    """Run a worker until it is told to stop, and return its exit code."""
    _parser(kind.role, purpose).parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        print(explain(error), file=sys.stderr)  # noqa: T201
        return BAD_SETTINGS
    try:
        handle = handler(settings)
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return BAD_SETTINGS
    configure(settings.log_level, settings.log_format)
    log.info("starting", role=kind.role, version=version("backtalk"), **settings.describe())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(kind, handle, settings))
    except TopologyMismatch as error:
        log.error("topology mismatch", problem=str(error))
        return BAD_TOPOLOGY
    except BrokerUnreachable as error:
        log.error("no broker", problem=str(error), remedy="check BACKTALK_AMQP_URL and that RabbitMQ runs")
        return NO_BROKER
    return DRAINED


async def _until_signal(
    kind: Kind[RequestT, AnswerT], handle: Handler[RequestT, AnswerT], settings: Settings
) -> None:
    await serve(kind, handle, settings, stop=_on_signals())


async def serve(
    kind: Kind[RequestT, AnswerT],
    handle: Handler[RequestT, AnswerT],
    settings: Settings,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None] = lambda: None,
    store: Store | None = None,
) -> None:
    """Consume until told to stop, then drain; the `store` is that of the settings if none is given."""
    names = Names(settings.namespace)
    url = settings.amqp_url.get_secret_value()
    await declare(url, topology(names), patience=settings.connect_seconds)
    async with (
        OpenAIModel(settings.named_endpoints()) as adapter,
        store or _store(settings, kind.role) as remembered,
        connect(url, name=f"backtalk {kind.role}-worker", patience=settings.connect_seconds) as broker,
    ):
        replies = Replies(broker, names, kind)
        worker = Worker(
            kind,
            handle,
            adapter=adapter,
            store=remembered,
            replies=replies,
            budget=settings.job_budget_seconds,
            patience=Patience(settings.max_attempts, settings.max_age_seconds),
        )
        undertaker = Undertaker(kind, replies)
        consumers = (
            await broker.consume(names.work(kind.role), worker.deliver, prefetch=settings.concurrency),
            await broker.consume(names.crashed(kind.role), undertaker.deliver, prefetch=_BURIALS_AT_ONCE),
        )
        _calm_collector()
        log.info("ready")
        ready()
        await stop.wait()
        log.info("draining", seconds=settings.drain_seconds)
        for consumer in consumers:
            await consumer.cancel()
        await worker.drain(settings.drain_seconds)
    log.info("stopped", **remembered.told())


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


def _on_signals() -> asyncio.Event:
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


def _parser(role: str, purpose: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{role}-worker",
        description=purpose,
        epilog=_EPILOG.format(role=role, table=table()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("backtalk"))
    return parser
