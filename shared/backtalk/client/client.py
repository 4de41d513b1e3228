"""The asyncio client: many calls in flight on one connection, and fire-and-collect through a named stream."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any, Final, Self, TypeAlias, overload

from pydantic import BaseModel

from backtalk.client.calls import Calls
from backtalk.client.inbox import REMEMBERED, AnyAnswer, Inbox
from backtalk.client.requests import feedback_of, job_of
from backtalk.client.split import parts_of, together, whole
from backtalk.client.traces import Traces
from backtalk.transport.envelope import ACCEPT_ENCODING, Envelope, TransportError, Unroutable
from backtalk.transport.rabbitmq import Broker, connect
from backtalk.transport.topology import DEFAULT_URL, Names, reply_queue
from backtalk.wire.chunk import CompletionChunk
from backtalk.wire.codec import encode, pack
from backtalk.wire.control import CONTROL_TYPE, Control
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob, CompletionResult
from backtalk.wire.kinds import BACKWARD, FORWARD

_PREFETCH: Final = 256

AnyRequest: TypeAlias = CompletionJob | Feedback


class Client:
    """A connection to Backtalk's queues.

    >>> async with Client("amqp://guest:guest@localhost/") as client:  # doctest: +SKIP
    ...     result = await client.complete(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
    ...     print(result.text)

    Calls may be made from many tasks at once. A lost connection comes back by itself and loses no answer.
    Every method that sends raises Unroutable where no worker ever declared the queues, QueueFull, Unconfirmed
    after `patience` seconds without a broker, and TooLarge before anything is sent.
    """

    def __init__(
        self, url: str | None = None, *, namespace: str | None = None, patience: float = 60.0
    ) -> None:
        self._url = url or os.environ.get("BACKTALK_AMQP_URL") or DEFAULT_URL
        self._names = Names(namespace or os.environ.get("BACKTALK_NAMESPACE") or "backtalk")
        self._patience = patience
        self._open = AsyncExitStack()
        self._traces = Traces()
        self._calls = Calls(self._traces.heard)
        self._reply_to = self._names.replies(uuid.uuid4().hex)
        self._declared: set[str] = set()
        self._broker: Broker | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises BrokerUnreachable after `patience` seconds."""
        async with AsyncExitStack() as opening:
            self._broker = await opening.enter_async_context(
                connect(self._url, name="backtalk client", patience=self._patience)
            )
            await opening.enter_async_context(self._own_replies(self._broker))
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._calls.cancel()
        await self._open.aclose()

    async def complete(
        self,
        *,
        model: str,
        messages: Iterable[Mapping[str, Any] | BaseModel],
        inputs: Mapping[str, Any] | None = None,
        id: str | None = None,
        **arguments: Any,
    ) -> CompletionResult:
        """Send one completion job and wait for its result; a failed one is returned too, with its `error`.

        Contents and inputs may hold `Variable`s. A list anywhere in `inputs` makes a batch. All other arguments
        are those of OpenAI's chat completions, and `backtalk={…}` for Backtalk's own. Repeat a call with the
        same `id` and it is the same work. Raises Refused where the job is malformed.
        """
        return await self.call(job_of(model, messages, inputs, arguments), id=id)

    async def stream(
        self,
        *,
        model: str,
        messages: Iterable[Mapping[str, Any] | BaseModel],
        inputs: Mapping[str, Any] | None = None,
        id: str | None = None,
        **arguments: Any,
    ) -> AsyncGenerator[CompletionChunk | CompletionResult, None]:
        """Send one completion job and yield what is written while it is written, and last the whole result.

        >>> async for part in client.stream(model="gpt-4o", messages=messages):  # doctest: +SKIP
        ...     if isinstance(part, CompletionChunk):
        ...         print(part.text, end="", flush=True)
        ...     else:
        ...         print(part.usage)

        Each chunk names the `item` of the batch and the `choice` that it belongs to. A chunk whose `run` differs from
        the one before of its item says start again: forget what came of the item so far. The result counts whatever
        the chunks said. Arguments and exceptions are those of `complete`; leave the loop early, and the rest is
        ignored.
        """
        job = job_of(model, messages, inputs, {**arguments, "stream": True})
        with self._calls.begun(streams=True) as call:
            await self._send(job, id or call.correlation_id, self._reply_to, call.correlation_id)
            while chunk := await call.chunk():
                yield chunk
            result = await call.answer()
            assert isinstance(result, CompletionResult)
            yield result

    async def feedback(
        self,
        graph: Graph | Iterable[Graph] | None,
        feedback: Mapping[str, str | list[str] | None] | Iterable[Mapping[str, Any] | BaseModel],
        *,
        id: str | None = None,
        split: int = 1,
        **options: Any,
    ) -> Gradients:
        """Send feedback on a graph, or on several that belong together, and wait for the gradients.

        `feedback` maps variable ids to text (or to one text for each item of a batch, or to None, where an evaluation
        explains itself), or lists whole feedback items. Options are the fields of `Feedback`: `wrt`, `model`, `arguments`,
        `policy`, `samples`, `backtalk`.

        >>> await client.feedback(result.graph, {result.output: "Too long."}, policy={"batch": "digest"})  # doctest: +SKIP

        With `split`, feedback on a large batch goes out as so many messages, which as many workers share; the answer is
        that of one message. Budgets of the policy then count for each of them, and steps that were taken once for the
        whole batch are asked about by each.
        """
        request = feedback_of(graph, feedback, options)
        return await self.call(request, id=id) if split == 1 else await self._shared(request, id, split)

    async def _shared(self, request: Feedback, id: str | None, split: int) -> Gradients:
        """Send a request in parts, each the same work when it is sent again, and join the answers."""
        graph = Graph.join(*request.graphs)
        name = id or uuid.uuid4().hex
        parts = parts_of(request, graph, split)
        calls = (self.call(part, id=f"{name}/{at}") for at, part in enumerate(parts))
        return whole(await together(calls), graph, name)

    @overload
    async def call(self, request: CompletionJob, *, id: str | None = None) -> CompletionResult: ...
    @overload
    async def call(self, request: Feedback, *, id: str | None = None) -> Gradients: ...
    async def call(self, request: AnyRequest, *, id: str | None = None) -> AnyAnswer:
        """Send a request and wait for its answer."""
        with self._calls.begun() as call:
            await self._send(request, id or call.correlation_id, self._reply_to, call.correlation_id)
            return await call.answer()

    async def cancel(self, id: str) -> None:
        """Have a request cancelled; whoever waits for it is answered `cancelled`, or `partial` where some was paid.

        A request that waits in a queue is answered so when a worker meets it: any worker where they have a result
        store, else one that was running now. What was answered before stays answered. Raises Unroutable where no
        worker runs.
        """
        order = Control(cancel=id)
        envelope = Envelope(
            encode(order), message_id=uuid.uuid4().hex, type=CONTROL_TYPE, content_type="application/json"
        )
        try:
            await self._live.publish(envelope, key="", exchange=self._names.control, patience=self._patience)
        except Unroutable as error:
            raise Unroutable(
                "no worker is running that could cancel it; start one, or check the namespace"
            ) from error

    async def enqueue(self, request: AnyRequest, *, results: str, id: str | None = None) -> str:
        """Send a request whose answer goes to the stream `results`, and return its id once it is confirmed."""
        sent = id or uuid.uuid4().hex
        await self._declare_once(results)
        await self._send(request, sent, self._names.replies(results), sent)
        return sent

    async def results(self, name: str) -> AsyncGenerator[AnyAnswer, None]:
        """Yield the answers of a named stream, for ever; `answer.id` is the id that `enqueue` returned.

        The stream is durable: it waits for its reader. An answer is acknowledged when the loop asks for the next
        one, and comes again if it never does. Repeats are dropped.
        """
        async with aclosing(self.groups(name, most=1)) as groups:
            async for (answer,) in groups:
                yield answer

    async def groups(
        self, name: str, *, most: int = _PREFETCH, remembered: int = REMEMBERED, idle: float | None = None
    ) -> AsyncGenerator[list[AnyAnswer], None]:
        """Yield the answers of a named stream as they come, up to `most` at once, acknowledged together.

        For readers that write down many at a time. One that tells repeats by itself needs none `remembered`. With
        `idle`, it ends when nothing has come for so many seconds.
        """
        inbox = Inbox(self._traces.heard, remembered)
        await self._declare_once(name)
        consumer = await self._live.consume(self._names.replies(name), inbox.deliver, prefetch=_PREFETCH)
        try:
            async for answers in inbox.groups(most, idle):
                yield answers
        finally:
            await consumer.close()

    async def forget(self, name: str) -> None:
        """Delete a named stream with all that is still in it."""
        self._declared.discard(name)
        await self._live.delete(self._names.replies(name))

    async def _declare_once(self, name: str) -> None:
        if name not in self._declared:
            await self._live.declare(reply_queue(self._names, name, lasting=True))
            self._declared.add(name)

    @property
    def _live(self) -> Broker:
        if self._broker is None:
            raise RuntimeError("the client is not connected; use it in `async with Client(…) as client:`")
        return self._broker

    async def _send(self, request: AnyRequest, id: str, reply_to: str, correlation_id: str) -> None:
        kind = FORWARD if isinstance(request, CompletionJob) else BACKWARD
        body, encoding = pack(encode(request), compress=True)
        envelope = Envelope(
            body,
            message_id=id,
            correlation_id=correlation_id,
            reply_to=reply_to,
            type=kind.request_type,
            content_type="application/json",
            content_encoding=encoding,
            timestamp=time.time(),
            headers={ACCEPT_ENCODING: "gzip", **self._traces.headers(request)},
        )
        await self._live.publish(envelope, key=self._names.work(kind.role), patience=self._patience)

    @asynccontextmanager
    async def _own_replies(self, broker: Broker) -> AsyncIterator[None]:
        name = self._reply_to.removeprefix(self._names.replies(""))
        await broker.declare(reply_queue(self._names, name, lasting=False))
        consumer = await broker.consume(self._reply_to, self._calls.receive, prefetch=_PREFETCH)
        try:
            yield
        finally:
            await consumer.close()
            # without a broker it goes by itself, after an hour
            with suppress(TransportError):
                await broker.delete(self._reply_to)
