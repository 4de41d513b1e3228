"""When a worker traces, where spans go, and what it costs where nobody asked for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from backtalk.local.simulated_model import SimulatedModel
from backtalk.runtime import otel_tracing
from backtalk.runtime.openai_client import Endpoint, OpenAIClient
from backtalk.runtime.otel_tracing import OtelTracing
from backtalk.runtime.tracing import NO_TRACING, tracing_for
from backtalk.transport.envelope import Delivery, Envelope

ENDPOINT = Endpoint("openai", "http://127.0.0.1:9/v1", None, 1, 1.0)
SENDER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}
OFF = """
import sys
import backtalk, forward_worker.__main__, backward_worker.__main__
from backtalk.client import Client
from backtalk.runtime.tracing import NO_TRACING, tracing_for
assert tracing_for("forward", ()) is NO_TRACING
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""


def delivery(**headers):
    async def ack():
        return True

    return Delivery(
        Envelope(b"{}", message_id="m", headers=headers), "ns.forward", redelivered=False, ack=ack
    )


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "mine"},
        {"OTEL_TRACES_EXPORTER": ""},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
        {"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    ],
    ids=str,
)
def test_nobody_traces_who_was_not_asked_to(environment):
    """As OpenTelemetry's variables say."""
    assert tracing_for("forward", [ENDPOINT], environment) is NO_TRACING


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER: 'jaeger' is not known; use otlp"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ),
    ],
    ids=str,
)
def test_an_exporter_that_is_not_there_is_a_mistake_in_the_settings(environment, named):
    """The variable is named, and what to write."""
    with pytest.raises(ValueError, match=named):
        tracing_for("forward", [ENDPOINT], environment)


def test_asking_for_traces_without_the_extra_names_the_remedy(monkeypatch):
    """A worker does not start without what it was told to do."""
    monkeypatch.delitem(sys.modules, "backtalk.runtime.otel_tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: .* install backtalk\[otel\]"):
        tracing_for("forward", [ENDPOINT], {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})


def test_a_worker_that_does_not_trace_never_imports_opentelemetry():
    """Neither do a client and a program."""
    assert subprocess.run([sys.executable, "-c", OFF], check=False).returncode == 0


def test_without_tracing_the_trace_of_a_sender_passes_through():
    """An answer bears what the request said; texts only."""
    envelope = delivery(**SENDER, other="x").envelope
    with NO_TRACING.processing(delivery()), NO_TRACING.sending("ns.replies.me", envelope) as headers:
        assert headers == SENDER
    with NO_TRACING.sending("ns.replies.me", delivery(traceparent=7).envelope) as headers:
        assert headers == {}


def test_an_answer_of_somebody_without_a_span_is_in_the_trace_of_its_sender():
    """Whoever buries a message never looked into it."""
    with OtelTracing(TracerProvider(shutdown_on_exit=False), {}).sending(
        "a", delivery(**SENDER).envelope
    ) as told:
        assert told["traceparent"][:35] == SENDER["traceparent"][:35]
        assert told["traceparent"] != SENDER["traceparent"]


def test_what_is_left_is_exported_at_the_end(monkeypatch):
    """To a collector over HTTP, under the name of the worker or the one it was given."""
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        for name in ("", "mine"):
            monkeypatch.setenv("OTEL_SERVICE_NAME", name)
            tracing = tracing_for("forward", [ENDPOINT])
            with tracing.processing(delivery()):
                tracing.settled("answered")
            tracing.close()
        server.shutdown()
    assert [path for path, _ in received] == ["/v1/traces"] * 2
    assert [(b"process ns.forward" in body, b"answered" in body) for _, body in received] == [
        (True, True)
    ] * 2
    assert [b"backtalk-forward-worker" in body for _, body in received] == [True, False]
    assert b"mine" in received[1][1]


def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch):
    """What it did not take by then is lost."""
    monkeypatch.setattr(otel_tracing, "FLUSH_SECONDS", 0.1)
    released = threading.Event()

    class Hanging(SpanExporter):
        def export(self, _):
            released.wait(10)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Hanging()))
    tracing = OtelTracing(provider, {})
    with tracing.processing(delivery()):
        pass
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < 2
    released.set()


@pytest.mark.parametrize("traced", [True, False])
async def test_an_endpoint_is_told_of_the_trace_where_it_is_to_be(traced):
    """By the header of the W3C, with a whole answer and with a stream; never unasked."""
    async with Attentive() as model:
        endpoint = Endpoint("openai", model.base_url, None, 1, 5.0, traced)
        async with OpenAIClient(endpoint, lambda: SENDER) as client:
            await client.whole(b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}')
            body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
            await client.streamed(body, Deaf())
    assert model.told == [SENDER["traceparent"] if traced else None] * 2


class Attentive(SimulatedModel):
    """A model that remembers which trace it was told of."""

    def _application(self):
        self.told = []
        application = super()._application()
        application.on_response_prepare.append(self._note)
        return application

    async def _note(self, request, _):
        self.told.append(request.headers.get("traceparent"))


class Deaf:
    """Listens to a stream, and makes nothing of it."""

    def begin(self):
        pass

    def hear(self, chunk):
        pass
