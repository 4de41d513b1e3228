"""One trace from a sender through both workers and every model call, as an exporter gets it."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

import backtalk
from backtalk import cognitive as cog
from backtalk.models import OpenAI
from backtalk.runtime.conventions import Peer
from backtalk.runtime.otel_tracing import OtelTracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SECRET = "canary-7f3a"


class Recorded:
    """What three services exported: a sender and both workers."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self.sender = self.provider("sender").get_tracer("test")

    def provider(self, service):
        provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        return provider

    def clear(self):
        self._exporter.clear()

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    def named(self, start):
        """Return the spans whose names begin so, in the order in which they began."""
        found = (span for span in self.spans if span.name.startswith(start))
        return sorted(found, key=lambda span: span.start_time)

    def under(self, parent, start=""):
        return [
            one for one in self.named(start) if one.parent and one.parent.span_id == parent.context.span_id
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(new_stage):
    """Run both workers for the whole module, with everything they trace recorded."""
    recorded = Recorded()
    async with new_stage() as stage:
        peers = {"openai": Peer.of("openai", stage.model.base_url)}
        for role in ("forward", "backward"):
            await stage.worker(role, tracing=OtelTracing(recorded.provider(role), peers))
        yield stage, recorded


@pytest_asyncio.fixture(loop_scope="module")
async def traced(both):
    """Return the stage and what is recorded on it, without anything of the test before."""
    stage, recorded = both
    await stage.clear()
    recorded.clear()
    return stage, recorded


pytestmark = pytest.mark.asyncio(loop_scope="module")


def prompt(text="Hello"):
    said = {"id": f"system of {text[:3]}", "data": text, "role": "system instruction", "requires_grad": True}
    return [{"role": "system", "content": [said]}, {"role": "user", "content": text}]


def traceparent(span):
    context = span.context
    return (
        f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"
    )


async def ended(stage, recorded, count, start="process"):
    """Wait for spans of deliveries: they end after the answer is confirmed."""
    await stage.until(lambda: len(recorded.named(start)) >= count, what=f"{count} spans {start}")


async def test_one_trace_goes_through_both_workers(traced):
    """Sender, forward worker, both tries of its model call, answer, feedback, and each call of the backward pass."""
    stage, recorded = traced
    client = await stage.client()
    stage.model.rule(times=1, status=503)
    with recorded.sender.start_as_current_span("sender") as sender:
        result = await client.complete(model="gpt", messages=prompt(), temperature=0, max_tokens=9)
        gradients = await client.feedback(result.graph, {result.output: "Shorter."}, model="critic")
    assert gradients.status == "completed"
    await ended(stage, recorded, 2)
    assert {span.context.trace_id for span in recorded.spans} == {sender.context.trace_id}

    forward, backward = recorded.under(sender, "process")
    assert [one.resource.attributes["service.name"] for one in (forward, backward)] == ["forward", "backward"]
    (call,) = recorded.under(forward, "chat")
    tries = recorded.under(call, "POST")
    assert [one.attributes.get("error.type") for one in tries] == ["503", None]
    assert [one.attributes.get("http.request.resend_count") for one in tries] == [None, 1]
    asked = recorded.under(backward, "chat")
    assert len(asked) == len(stage.model.calls) - 2 > 0
    assert all(len(recorded.under(one, "POST")) == 1 for one in asked)
    assert len({one.attributes["backtalk.place"] for one in asked}) == len(asked)
    assert [len(recorded.under(one, "send")) for one in (forward, backward)] == [1, 1]
    # a sender, two deliveries with an answer each, and what was asked
    assert len(recorded.spans) == 1 + 2 * 2 + (1 + 2) + 2 * len(asked)


async def test_spans_follow_the_conventions(traced):
    """Of messaging, of generative models, and of HTTP."""
    stage, recorded = traced
    mailbox = await stage.mailbox()
    body = {"model": "gpt", "messages": prompt(), "temperature": 0, "max_tokens": 9, "n": 2}
    properties = {"message_id": "m", "correlation_id": "c", "reply_to": mailbox}
    await stage.send(body, **properties, headers={"traceparent": PARENT, "tracestate": "a=b"})
    letter = await stage.take(mailbox)
    await ended(stage, recorded, 1)
    (process,) = recorded.named("process")
    queue = stage.names.work("forward")
    assert (process.name, process.kind) == (f"process {queue}", SpanKind.CONSUMER)
    size = process.attributes["messaging.message.body.size"]
    assert size > 100
    assert dict(process.attributes) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.message.body.size": size,
        "messaging.message.id": "m",
        "messaging.message.conversation_id": "c",
        "backtalk.attempt": 0,
        "backtalk.redelivered": False,
        "backtalk.outcome": "answered",
        "backtalk.status": "completed",
    }
    assert process.parent.is_remote
    assert traceparent(process).startswith(f"00-{TRACE}-")

    host = {
        "server.address": "127.0.0.1",
        "server.port": int(stage.model.base_url.split(":")[2].split("/")[0]),
    }
    (call,) = recorded.named("chat")
    assert (call.name, call.kind) == ("chat gpt", SpanKind.CLIENT)
    usage = letter.json["usage"]
    assert dict(call.attributes) == host | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt",
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.id": letter.json["completions"][0]["id"],
        "gen_ai.response.model": letter.json["completions"][0]["model"],
        "gen_ai.response.finish_reasons": ("stop", "stop"),
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "backtalk.place": call.attributes["backtalk.place"],
    }
    (post,) = recorded.named("POST")
    assert dict(post.attributes) == host | {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.full": f"{stage.model.base_url}/chat/completions",
    }
    (send,) = recorded.named("send")
    assert (send.name, send.kind) == ("send (temporary)", SpanKind.PRODUCER)
    assert send.attributes["messaging.destination.name"] == mailbox
    assert send.attributes["messaging.message.conversation_id"] == "c"
    assert (letter.headers["traceparent"], letter.headers["tracestate"]) == (traceparent(send), "a=b")
    assert {span.status.status_code for span in recorded.spans} == {StatusCode.UNSET}


async def test_a_job_that_is_put_off_stays_in_its_trace(traced):
    """Each attempt is a span of its own beside the one before, under the sender's."""
    stage, recorded = traced
    stage.model.rule(times=1, status=503, retry_after=20)
    mailbox = await stage.mailbox()
    body = {"model": "gpt", "messages": prompt()}
    await stage.send(body, message_id="m", reply_to=mailbox, headers={"traceparent": PARENT})
    waiting = await stage.take(stage.names.rung("forward", "30s"))
    assert waiting.headers["traceparent"] == PARENT
    # as the broker does in half a minute
    headers = {
        "traceparent": waiting.headers["traceparent"],
        "x-backtalk-attempt": waiting.headers["x-backtalk-attempt"],
    }
    await stage.send(waiting.content, message_id="m", reply_to=mailbox, headers=headers)
    await stage.take(mailbox)
    await ended(stage, recorded, 2)
    first, second = recorded.named("process")
    assert [one.attributes["backtalk.outcome"] for one in (first, second)] == ["put off", "answered"]
    assert [one.attributes["backtalk.attempt"] for one in (first, second)] == [0, 1]
    assert {f"00-{TRACE}-{format_span_id(one.parent.span_id)}-01" for one in (first, second)} == {PARENT}
    assert first.attributes["error.type"] == "upstream_unavailable"
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)


@pytest.mark.parametrize(
    ("rule", "kind"), [({"status": 400}, "400"), ({"status": 503, "retry_after": 20}, "503")], ids=str
)
async def test_an_endpoint_that_fails_is_an_error_of_its_kind(traced, rule, kind):
    """The call and its tries say which; nobody repeats what the endpoint said."""
    stage, recorded = traced
    stage.model.rule(**rule)
    body = {"model": "gpt", "messages": prompt()}
    await stage.send(body, message_id="m", headers={"traceparent": PARENT})
    await ended(stage, recorded, 1)
    for span in (*recorded.named("chat"), *recorded.named("POST")):
        assert (span.attributes["error.type"], span.status.status_code) == (kind, StatusCode.ERROR)
        assert span.attributes["http.response.status_code"] == int(kind)
        assert (span.status.description, span.events) == (None, ())


async def test_nothing_that_was_said_is_in_a_span(traced):
    """No prompt, answer, feedback, gradient or error of an endpoint; of neither worker."""
    stage, recorded = traced
    client = await stage.client()
    result = await client.complete(
        model="gpt", messages=prompt(f"Repeat {SECRET}"), stop=[SECRET], user=SECRET, metadata={"a": SECRET}
    )
    assert SECRET in result.text
    gradients = await client.feedback(result.graph, {result.output: f"{SECRET}!"}, model="critic")
    assert gradients.status == "completed"
    stage.model.rule(body=f'{{"error": "{SECRET}"}}')
    assert (await client.complete(model="gpt", messages=prompt(SECRET))).status == "failed"
    await ended(stage, recorded, 3)
    assert len(recorded.spans) > 8
    assert not [span.name for span in recorded.spans if SECRET in span.to_json()]


@pytest.mark.parametrize("given", [{}, {"traceparent": "00-1-2-01"}, {"traceparent": 7}], ids=str)
async def test_without_a_trace_of_its_sender_a_job_begins_one(traced, given):
    """Whatever the header says; the answer tells which."""
    stage, recorded = traced
    letter = await stage.ask({"model": "gpt", "messages": prompt()}, headers=given)
    await ended(stage, recorded, 1)
    (process,) = recorded.named("process")
    (send,) = recorded.named("send")
    assert process.parent is None
    assert letter.headers["traceparent"] == traceparent(send)


async def test_feedback_goes_on_with_the_trace_of_the_answers(traced):
    """That of the first where the caller is in no span, with links to the others; else the caller's own."""
    stage, recorded = traced
    client = await stage.client()
    results = [await client.complete(model="gpt", messages=prompt(text)) for text in ("one", "two")]
    await ended(stage, recorded, 2)
    answers = recorded.named("send")
    feedback = [result.graph for result in results], {result.output: "Shorter." for result in results}
    await client.feedback(*feedback, model="critic")
    await ended(stage, recorded, 3)
    (_, _, process) = recorded.named("process")
    assert process.parent.span_id == answers[0].context.span_id
    assert [link.context.span_id for link in process.links] == [answers[1].context.span_id]
    with recorded.sender.start_as_current_span("sender") as sender:
        await client.feedback(*feedback, model="critic")
    await ended(stage, recorded, 4)
    process = recorded.named("process")[-1]
    assert process.parent.span_id == sender.context.span_id
    assert [link.context.span_id for link in process.links] == [one.context.span_id for one in answers]


async def test_deliveries_of_the_same_work_refer_to_where_it_is_done(traced):
    """The model is asked once, in the span of the first."""
    stage, recorded = traced
    stage.model.rule(delay=0.2)
    mailbox = await stage.mailbox()
    body = {"model": "gpt", "messages": prompt()}
    for correlation in ("a", "b"):
        await stage.send(body, message_id="m", correlation_id=correlation, reply_to=mailbox)
    await ended(stage, recorded, 2)
    first, second = recorded.named("process")
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert first.context.trace_id != second.context.trace_id
    (call,) = recorded.named("chat")
    assert call.parent.span_id == first.context.span_id


async def test_log_lines_name_the_trace(traced):
    """Whoever reads one finds the spans."""
    stage, recorded = traced
    with capture_logs(processors=[merge_contextvars]) as logs:
        body = {"model": "gpt", "messages": prompt()}
        await stage.ask(body, message_id="logged", headers={"traceparent": PARENT})
        (told,) = await stage.until(lambda: [line for line in logs if line.get("job") == "logged"])
    (process,) = recorded.named("process")
    assert (told["trace_id"], told["span_id"]) == (TRACE, format_span_id(process.context.span_id))


async def test_a_program_takes_its_span_to_the_thread_of_its_connection(traced):
    """Steps and the backward pass are in the trace of whoever called them."""
    stage, recorded = traced
    chat = cog.ChatCompletion(model="gpt")
    system = backtalk.Variable("Be kind.", role="system", requires_grad=True)
    with (
        backtalk.connect(stage.url, namespace=stage.names.namespace),
        recorded.sender.start_as_current_span("sender") as sender,
    ):
        said = await chat.acall(OpenAI(), [{"role": "system", "content": [system]}])
        await asyncio.to_thread(said.backward, backtalk.Variable("Shorter.", role="feedback"))
    await ended(stage, recorded, 2)
    assert len(recorded.under(sender, "process")) == 2
    assert {span.context.trace_id for span in recorded.spans} == {sender.context.trace_id}
