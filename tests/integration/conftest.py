"""A real broker, a simulated model over HTTP, and the workers inside the test's own process.

A `Stage` is one namespace on a broker with a model of its own. Tests publish to its queues as any service would,
and look at queues and answers only.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import aio_pika
import pytest
import pytest_asyncio
from aio_pika import exceptions as amqp
from aiormq.abc import ChannelFrame
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pydantic import SecretStr
from pydantic_core import to_json

from backtalk.autodiff import close, connect
from backtalk.client import Client
from backtalk.local.broker import PrivateBroker
from backtalk.local.simulated_model import SimulatedModel
from backtalk.models import get_backward_model_client, set_backward_model_client
from backtalk.models.backward import forget_backward_model_client
from backtalk.runtime.child import Command
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.progress import Progress
from backtalk.runtime.serving import serve
from backtalk.runtime.settings import EndpointSettings, Settings
from backtalk.runtime.tracing import NO_TRACING
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import Names, topology
from backtalk.wire.kinds import BACKWARD, FORWARD
from backward_worker.differentiate import differentiate
from forward_worker.complete import complete
from forward_worker.tools.inject import toolbox

PATIENCE = 20.0
POLL = 0.01
LOST = (amqp.AMQPError, ConnectionError, RuntimeError)


@dataclass(frozen=True)
class Letter:
    """A message taken from a queue, with its body unpacked."""

    message: aio_pika.abc.AbstractIncomingMessage

    @property
    def content(self):
        packed = self.message.content_encoding == "gzip"
        return gzip.decompress(self.message.body) if packed else self.message.body

    @property
    def json(self):
        return json.loads(self.content)

    @property
    def headers(self):
        return self.message.headers

    @property
    def id(self):
        return self.message.message_id

    @property
    def error(self):
        return self.json["error"]


@dataclass
class Worker:
    """A worker in the test's process; `stop` starts the drain, `done` waits for its end."""

    stop: Callable[[], None]
    task: asyncio.Task[None]
    progress: Progress
    metrics: Metrics

    async def done(self):
        async with asyncio.timeout(PATIENCE):
            await self.task

    async def drain(self):
        self.stop()
        await self.done()


class Stage:
    """One namespace on a broker, a model, and the workers and clients that a test starts."""

    def __init__(self, url: str, *, namespace: str | None = None) -> None:
        self.url = url
        self.names = Names(namespace or f"test-{uuid.uuid4().hex[:12]}")
        self.model = SimulatedModel()
        self._open = AsyncExitStack()
        self._connection = None
        self._channels: dict[bool, Any] = {}
        self._mailboxes: list[str] = []
        self._inbox: str | None = None

    async def __aenter__(self):
        await self._open.enter_async_context(self.model)
        self._open.push_async_callback(self._clean)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    # ---- what runs

    async def worker(
        self,
        role: str = "forward",
        *,
        handle: Any = None,
        store: Any = None,
        tracing=NO_TRACING,
        **settings: Any,
    ) -> Worker:
        """Start a worker; it is ready when this returns, and drained at the end of the test."""
        told = self.settings(**settings)
        kind, usual = {
            "forward": (
                FORWARD,
                partial(complete, toolbox=toolbox(told.tool_templates, told.tool_modes())),
            ),
            "backward": (
                BACKWARD,
                partial(differentiate, backward_model=told.backward_model, policy=told.policy),
            ),
        }[role]
        return await self._open.enter_async_context(_running(kind, handle or usual, told, store, tracing))

    def settings(self, **given: Any) -> Settings:
        endpoint = EndpointSettings(base_url=self.model.base_url)
        told = {
            "amqp_url": self.url,
            "namespace": self.names.namespace,
            "endpoints": {"openai": endpoint},
            "drain_seconds": 1,
            "connect_seconds": 5,
        }
        return Settings(**told | given)

    async def client(self, **options: Any) -> Client:
        """Return a connected client, closed at the end of the test."""
        return await self._open.enter_async_context(self.new_client(**options))

    def new_client(self, **options: Any) -> Client:
        return Client(self.url, namespace=self.names.namespace, **options)

    # ---- what any service could do

    async def mailbox(self, name: str | None = None, **arguments: Any) -> str:
        """Make a durable queue for answers and return its name."""
        queue = name or f"mailbox-{uuid.uuid4().hex[:12]}"
        channel = await self.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum", **arguments})
        self._mailboxes.append(queue)
        return queue

    async def send(
        self,
        body: Any,
        *,
        role: str = "forward",
        exchange: str = "",
        key: str | None = None,
        **properties: Any,
    ) -> None:
        """Publish a body (bytes as they are, anything else as JSON) and wait for the confirm."""
        channel = await (await self.channel()).get_underlay_channel()
        # aiormq makes up a random id where there is none
        properties.setdefault("message_id", uuid.uuid4().hex)
        await channel.basic_publish(
            _content(body),
            exchange=exchange,
            routing_key=self.names.work(role) if key is None else key,
            properties=_properties(properties),
            mandatory=True,
        )

    async def send_bare(
        self, body: Any, *, role: str = "forward", alter: tuple[bytes, bytes] = (b"", b""), **properties: Any
    ) -> None:
        """Publish with these properties and no others; `alter` replaces bytes of the frames by others."""
        channel = await (await self.channel(confirm=False)).get_underlay_channel()
        content = _content(body)
        marshalled = ChannelFrame.marshall(
            frames=[
                spec.Basic.Publish(routing_key=self.names.work(role)),
                ContentHeader(properties=_properties(properties), body_size=len(content)),
                ContentBody(content),
            ],
            channel_number=channel.number,
        )
        frames = replace(
            marshalled, payload=marshalled.payload.replace(*alter) if any(alter) else marshalled.payload
        )
        await channel.write_queue.put(frames)

    async def ask(self, body: Any, *, patience: float = PATIENCE, **properties: Any) -> Letter:
        """Publish a request and return the answer to it; one after the other, they share a mailbox."""
        if self._inbox is None:
            self._inbox = await self.mailbox()
        await self.send(body, reply_to=self._inbox, **properties)
        return await self.take(self._inbox, patience=patience)

    async def take(self, queue: str, *, patience: float = PATIENCE) -> Letter:
        """Take the next message from a queue, or fail after `patience` seconds."""
        message = await self.until(partial(self.peek, queue), patience=patience, what=f"a message in {queue}")
        return Letter(message)

    async def peek(self, queue: str) -> Any:
        """Take a message from a queue if there is one."""
        source = await (await self.channel()).get_queue(queue, ensure=False)
        return await source.get(no_ack=True, fail=False)

    async def rest(self, queue: str) -> list[Letter]:
        """Take whatever else is in a queue."""
        letters = []
        while (message := await self.peek(queue)) is not None:
            letters.append(Letter(message))
        return letters

    async def depth(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""
        declared = await (await self.channel()).declare_queue(queue, passive=True)
        return declared.declaration_result.message_count

    async def drop(self, queue: str) -> None:
        """Take a message and lose it, as a worker that dies does: the broker counts the delivery."""
        message = await self.until(partial(self._unsettled, queue), what=f"a message in {queue}")
        await message.nack(requeue=True)

    async def _unsettled(self, queue: str) -> Any:
        source = await (await self.channel()).get_queue(queue, ensure=False)
        return await source.get(fail=False)

    async def delete(self, queue: str) -> None:
        await (await (await self.channel()).get_queue(queue, ensure=False)).delete(
            if_unused=False, if_empty=False
        )

    async def exchange(self, name: str, kind: str) -> None:
        await (await self.channel()).declare_exchange(name, kind, durable=True)

    async def bind(self, queue: str, exchange: str, key: str) -> None:
        await (await (await self.channel()).get_queue(queue, ensure=False)).bind(exchange, key)

    async def clear(self) -> None:
        """Forget the model's calls and rules, and empty the queues."""
        self.model.reset()
        channel = await self.channel()
        for queue in topology(self.names).queues:
            await (await channel.get_queue(queue.name, ensure=False)).purge()
        for mailbox in self._mailboxes:
            await self.delete(mailbox)
        self._mailboxes, self._inbox = [], None

    async def consumers(self, queue: str) -> int:
        declared = await (await self.channel()).declare_queue(queue, passive=True)
        return declared.declaration_result.consumer_count

    async def until(
        self,
        check: Callable[[], Awaitable[Any]] | Callable[[], Any],
        *,
        patience: float = PATIENCE,
        what: str = "",
    ):
        """Poll until the check returns something true, and return that; a lost connection is made anew."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with suppress(*LOST):
                found = check()
                if found := await found if isinstance(found, Awaitable) else found:
                    return found
            await asyncio.sleep(POLL)
        pytest.fail(f"{what or check} did not come about within {patience:g} s")

    async def calls(self, count: int) -> None:
        """Wait until the model was called so often."""
        await self.until(lambda: self.model.total >= count, what=f"call number {count} of the model")

    async def channel(self, *, confirm: bool = True):
        """Return a channel of the test's own connection; after a loss, of a new one."""
        channel = self._channels.get(confirm)
        if channel is not None and not (await channel.get_underlay_channel()).is_closed:
            return channel
        with suppress(*LOST):
            return await self._opened(confirm)
        self._connection = None
        return await self._opened(confirm)

    async def _opened(self, confirm):
        if self._connection is None:
            self._connection = await aio_pika.connect(self.url)
        options = {"publisher_confirms": confirm, "on_return_raises": confirm}
        channel = self._channels[confirm] = await self._connection.channel(**options)
        return channel

    async def _clean(self) -> None:
        """Leave nothing on a broker that outlives the tests.

        A private node goes as a whole: RabbitMQ 3.10 may lose the supervisor of all dead-lettering, and with it the
        ability to declare, when a queue with at-least-once dead letters is deleted soon after it came up.
        """
        if self.url == os.environ.get("BACKTALK_TEST_AMQP_URL"):
            made = topology(self.names)
            for queue in (*(queue.name for queue in made.queues), *self._mailboxes):
                await self.delete(queue)
            channel = await self.channel()
            for exchange in made.exchanges:
                await channel.exchange_delete(exchange.name)
        if self._connection is not None:
            await self._connection.close()


def _environment(settings: Settings) -> dict[str, str]:
    told = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings
        if name in settings.model_fields_set
    }
    return {
        **os.environ,
        **{
            f"BACKTALK_{name.upper()}": value if isinstance(value, str) else to_json(value).decode()
            for name, value in told.items()
        },
    }


def _content(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _properties(given: Mapping[str, Any]) -> spec.Basic.Properties:
    told = {"delivery_mode": 2, **given}
    return spec.Basic.Properties(message_type=told.pop("type", None), **told)


@asynccontextmanager
async def _running(kind, handle, settings: Settings, store, tracing) -> AsyncIterator[Worker]:
    stop, ready, progress, metrics = asyncio.Event(), asyncio.Event(), Progress(), Metrics(kind.role)
    # a process of its own for a message knows the settings by its environment
    child = Command((sys.executable, "-m", f"{kind.role}_worker", "--alone"), _environment(settings))
    task = asyncio.ensure_future(
        serve(
            kind,
            handle,
            settings,
            child=child,
            stop=stop,
            progress=progress,
            ready=ready.set,
            store=store,
            metrics=metrics,
            tracing=tracing,
        )
    )
    waiting = asyncio.ensure_future(ready.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    try:
        yield Worker(stop.set, task, progress, metrics)
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def own_broker() -> AsyncIterator[PrivateBroker]:
    """Return a node that tests may stop, fill and disconnect; nobody else is on it."""
    async with PrivateBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def new_stage(broker) -> Callable[[], Stage]:
    """Return the maker of stages on the broker that all tests share."""
    return lambda: Stage(broker.url)


@pytest.fixture(scope="session")
def stage_at() -> Callable[..., Stage]:
    """Return the maker of stages on a broker whose URL is given."""
    return Stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(new_stage: Callable[[], Stage]) -> AsyncIterator[Stage]:
    """Return a stage of one's own on the shared broker; nothing runs on it yet."""
    async with new_stage() as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def own_stage(own_broker: PrivateBroker) -> AsyncIterator[Stage]:
    """Return a stage on the broker that tests may maltreat: all of them use the same queues, found empty."""
    async with Stage(own_broker.url, namespace="own") as stage:
        await declare(stage.url, topology(stage.names), patience=10)
        await stage.clear()
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(new_stage: Callable[[], Stage]) -> AsyncIterator[Stage]:
    """Run both workers for a whole module."""
    async with new_stage() as stage:
        await stage.worker("forward")
        await stage.worker("backward")
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def pair(workers: Stage) -> Stage:
    """Return a stage with both workers; nothing on it is left over from the test before."""
    await workers.clear()
    # an endpoint that told one test after the other to wait would be given a rest
    await workers.ask({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
    await workers.clear()
    return workers


@pytest.fixture
async def round_trip(new_stage: Callable[[], Stage]) -> AsyncIterator[Stage]:
    """Run both workers for one test, in its own event loop."""
    async with new_stage() as stage:
        await stage.worker("forward")
        await stage.worker("backward")
        yield stage


@pytest.fixture
def model(round_trip: Stage) -> SimulatedModel:
    return round_trip.model


@pytest.fixture
async def client(round_trip: Stage) -> Client:
    """Return a client with both workers at the other end."""
    return await round_trip.client()


class Elsewhere:
    """A stage whose workers run in a thread of their own, so that a test may block as a program does."""

    def __init__(self, new_stage: Callable[[], Stage], *, forward: int = 1) -> None:
        self._new_stage, self._forward = new_stage, forward
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(self._start())
        connect(self.stage.url, namespace=self.stage.names.namespace)
        return self

    def __exit__(self, *exc: object) -> None:
        close()
        self.do(self.stage.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def do(self, work: Any) -> Any:
        """Do something where the workers are, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    @property
    def model(self) -> SimulatedModel:
        return self.stage.model

    async def _start(self) -> None:
        self.stage = await self._new_stage().__aenter__()
        for _ in range(self._forward):
            await self.stage.worker("forward")
        await self.stage.worker("backward")


@pytest.fixture(scope="module")
def elsewhere(new_stage: Callable[[], Stage]) -> Iterator[Elsewhere]:
    """Run both workers in another thread for a whole module, and let programs use them."""
    with Elsewhere(new_stage) as running:
        yield running


@pytest.fixture
def program(elsewhere: Elsewhere) -> Iterator[Elsewhere]:
    """Return what a program runs on: the model it asks, with nothing left over from the test before."""
    elsewhere.model.reset()
    set_backward_model_client("openai/gpt-4o")
    get_backward_model_client().clear_usage()
    yield elsewhere
    forget_backward_model_client()


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No setting of the user's reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("BACKTALK_", "OPENAI_", "OTEL_")) and name != "BACKTALK_TEST_AMQP_URL":
                patch.delenv(name)
        yield


def _body(text: str = "Hello", **fields: Any) -> Mapping[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


@pytest.fixture(scope="session")
def job() -> Callable[..., Mapping[str, Any]]:
    """Return the maker of jobs: `job("text", temperature=0)`."""
    return _body
