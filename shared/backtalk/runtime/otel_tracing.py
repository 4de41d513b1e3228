"""Traces by OpenTelemetry: the one module of the workers that imports it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from backtalk.runtime.conventions import (
    ERROR_TYPE,
    Peer,
    answered,
    asked,
    failed,
    posted,
    processed,
    sent,
    settled,
)
from backtalk.runtime.openai_client import Endpoint
from backtalk.runtime.tracing import FLUSH_SECONDS, Headers, Told
from backtalk.transport.envelope import TRACE_LINKS, Delivery, Envelope
from backtalk.wire.answer import Answer

_OTLP: Final = ("otlp", "otlp_proto_http")
_W3C: Final = TraceContextTextMapPropagator()
_FAILED: Final = Status(StatusCode.ERROR)
_MAX_LINKS: Final = 16


class OtelTracing:
    """Spans that a provider makes; an endpoint is told of by what `peers` has under its name."""

    def __init__(self, provider: TracerProvider, peers: Mapping[str, Peer]) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("backtalk")
        self._peers = peers

    @contextmanager
    def processing(self, delivery: Delivery) -> Iterator[None]:
        name, told = processed(delivery)
        envelope = delivery.envelope
        span = self._tracer.start_span(
            name, _remote(envelope.trace), SpanKind.CONSUMER, told, links=_links(envelope)
        )
        with _within(span):
            yield

    def ids(self) -> Mapping[str, str]:
        context = get_current_span().get_span_context()
        return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}

    def here(self) -> str | None:
        return _carried().get("traceparent")

    def joined(self, there: str | None) -> None:
        if there is not None:
            for link in _to(there):
                get_current_span().add_link(link.context)

    def settled(self, how: str, answer: Answer | None = None) -> None:
        span = get_current_span()
        told = settled(how, answer)
        span.set_attributes(told)
        if ERROR_TYPE in told:
            span.set_status(_FAILED)
        # what comes after, the acknowledgement, waits for the broker's leisure
        span.end()

    @contextmanager
    def calling(self, endpoint: str, body: Mapping[str, Any], place: str, *, streams: bool) -> Iterator[Told]:
        name, told = asked(self._peer(endpoint), body, place, streams=streams)
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=told)
        with _within(span):
            yield lambda completion: span.set_attributes(answered(completion))

    @contextmanager
    def posting(self, endpoint: str, resent: int) -> Iterator[None]:
        name, told = posted(self._peer(endpoint), resent)
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=told)
        with _within(span):
            yield
            span.set_attribute("http.response.status_code", 200)

    def headers(self) -> Headers:
        return _carried()

    @contextmanager
    def sending(self, address: str, to: Envelope) -> Iterator[Headers]:
        name, told = sent(address, to)
        # whoever buries a message has no span of its own
        parent = None if get_current_span().get_span_context().is_valid else _remote(to.trace)
        with _within(self._tracer.start_span(name, parent, SpanKind.PRODUCER, told)):
            yield _carried()

    def close(self) -> None:
        # an exporter that waits for its collector must not hold up the end
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)

    def _peer(self, endpoint: str) -> Peer:
        return self._peers.get(endpoint) or Peer.of(endpoint, None)


def traced(role: str, endpoints: Iterable[Endpoint], environment: Mapping[str, str]) -> OtelTracing:
    """Return the tracing of a worker process. Raises ValueError for an exporter that is not there."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: f"backtalk-{role}-worker"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in _exporters(environment):
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracing(provider, {one.name: Peer.of(one.name, one.base_url) for one in endpoints})


def _exporters(environment: Mapping[str, str]) -> list[SpanExporter]:
    asked_for = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    return [_exporter(name.strip(), environment) for name in asked_for.split(",")]


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    if name == "console":
        # standard output is where a process that works alone talks to its worker
        return ConsoleSpanExporter(out=sys.stderr)
    if name not in _OTLP:
        raise ValueError(f"OTEL_TRACES_EXPORTER: {name!r} is not known; use otlp, console or none")
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environment.get(variable, "http/protobuf") != "http/protobuf":
            raise ValueError(
                f"{variable}: {environment[variable]!r} is not spoken; use http/protobuf, mostly on port 4318"
            )
    return OTLPSpanExporter()


@contextmanager
def _within(span: Span) -> Iterator[None]:
    """Be in a span, and end it. Of an error only its kind is told: what it says, and its traceback, may say more."""
    with use_span(span, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            span.set_attributes(failed(error))
            span.set_status(_FAILED)
            raise
        finally:
            if span.is_recording():
                span.end()


def _carried() -> dict[str, str]:
    """Return the headers that continue the trace from where we are."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier


def _remote(trace: Mapping[str, str]) -> Context:
    """Return the context that a sender's headers name; headers that make no sense name none."""
    return _W3C.extract(dict(trace), Context())


def _to(traceparent: str) -> list[Link]:
    context = get_current_span(_remote({"traceparent": traceparent})).get_span_context()
    return [Link(context)] if context.is_valid else []


def _links(envelope: Envelope) -> list[Link]:
    told = envelope.headers.get(TRACE_LINKS)
    if not isinstance(told, str):
        return []
    return [link for one in told.split()[:_MAX_LINKS] for link in _to(one)]
