"""The names in spans are OpenTelemetry's, and what a sender or an endpoint makes up breaks no exporter."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as incubating

from backtalk.runtime.conventions import Peer, answered, asked, failed, posted, processed, sent
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.errors import Closed, Code, Refused, Unavailable

PEER = Peer("openai", "api.openai.com", 443, "https://api.openai.com/v1/chat/completions")
COMPLETION = {"id": "c", "model": "m", "choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
PARAMETERS = {
    "temperature": 1,
    "top_p": 0.5,
    "frequency_penalty": 1,
    "presence_penalty": 1,
    "max_tokens": 5,
    "seed": 1,
    "top_k": 2,
    "n": 2,
}


def known():
    """Return every name that the package of the conventions has."""
    import importlib  # noqa: PLC0415
    import pkgutil  # noqa: PLC0415

    names = set()
    for package in (stable, incubating):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            names |= {value for value in vars(module).values() if isinstance(value, str)}
    return names


def delivery(**properties):
    async def ack():
        return True

    return Delivery(Envelope(b"{}", **properties), "ns.forward", redelivered=False, ack=ack)


def test_names_are_those_of_the_conventions():
    """Or Backtalk's own."""
    told = {
        **processed(delivery(message_id="m", correlation_id="c"))[1],
        **sent("ns.replies.me", Envelope(b"", message_id="m"))[1],
        **asked(PEER, {"model": "m", **PARAMETERS}, "items/0", streams=True)[1],
        **answered(COMPLETION),
        **posted(PEER, 1)[1],
        **failed(Unavailable(Code.UPSTREAM_UNAVAILABLE, "", status=503)),
    }
    assert {name for name in told if not name.startswith("backtalk.")} - known() == set()


@pytest.mark.parametrize(
    ("url", "provider", "port"),
    [
        (None, "openai", 443),
        ("https://api.openai.com/v1", "openai", 443),
        ("https://mine.openai.azure.com/openai/v1/", "azure.ai.openai", 443),
        ("https://api.groq.com/openai/v1", "groq", 443),
        ("https://notopenai.com/v1", "local", 443),
        ("http://127.0.0.1:8000/v1", "local", 8000),
        ("http://x.ai.example/v1", "local", 80),
    ],
)
def test_a_provider_is_known_by_its_host(url, provider, port):
    """One that is not is called as its endpoint is."""
    peer = Peer.of("local", url)
    assert (peer.provider, peer.port) == (provider, port)
    assert peer.url.endswith("/v1/chat/completions")


@pytest.mark.parametrize("wrong", [None, "warm", [1], {}, True, 2**63, -(2**63) - 1], ids=str)
def test_a_parameter_of_a_wrong_type_is_left_out(wrong):
    """An exporter would lose the whole batch of spans over it."""
    name, told = asked(PEER, {"model": "m", **dict.fromkeys(PARAMETERS, wrong)}, "p", streams=False)
    assert name == "chat m"
    assert set(told) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "server.address",
        "server.port",
        "backtalk.place",
    }


def test_one_choice_is_not_worth_a_word():
    """As the conventions say."""
    assert "gen_ai.request.choice.count" not in asked(PEER, {"model": "m", "n": 1}, "p", streams=False)[1]


@pytest.mark.parametrize("model", ["x" * 1000, "\ud800", None], ids=["long", "half a character", "none"])
def test_texts_can_be_exported(model):
    """Whatever a sender calls its model."""
    name, told = asked(PEER, {"model": model}, "p", streams=False)
    assert len(name) < 300
    assert told["gen_ai.request.model"].encode()


@pytest.mark.parametrize(
    ("completion", "told"),
    [
        ({"choices": [{}]}, {"gen_ai.response.finish_reasons": ("",)}),
        (
            {"id": 7, "model": None, "usage": {"prompt_tokens": "9"}, "choices": [{"finish_reason": "stop"}]},
            {"gen_ai.response.finish_reasons": ("stop",)},
        ),
        (
            COMPLETION,
            {
                "gen_ai.response.id": "c",
                "gen_ai.response.model": "m",
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 1,
            },
        ),
    ],
    ids=["bare", "wrong types", "usual"],
)
def test_what_an_endpoint_leaves_out_is_not_told(completion, told):
    """Only choices are sure to be there."""
    assert answered(completion) == told


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Refused(Code.UPSTREAM_REJECTED, "", status=404), "404"),
        (Closed(Code.UPSTREAM_UNAVAILABLE, ""), "upstream_unavailable"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyError("secret"), "KeyError"),
    ],
    ids=str,
)
def test_an_error_is_told_by_its_kind(error, kind):
    """A status where there is one, a code of the wire, or the name of a class."""
    assert failed(error)["error.type"] == kind


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("ns.replies.0a1b2c", "send ns.replies.{name}"),
        ("ns.results", "send (temporary)"),
        ("amq.rabbitmq.reply-to.g1h2", "send (temporary)"),
    ],
)
def test_a_span_is_not_named_after_an_address(address, name):
    """There are as many as there are senders."""
    span, told = sent(address, Envelope(b""))
    assert (span, told["messaging.destination.name"]) == (name, address)
