"""What spans say, by OpenTelemetry's conventions for messaging, generative models and HTTP.

Names, numbers and kinds only: no prompt, no answer, no message of an error.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeGuard
from urllib.parse import urlsplit

from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.answer import Answer
from backtalk.wire.errors import BacktalkError

Value: TypeAlias = str | bool | int | float | tuple[str, ...]
Attributes: TypeAlias = dict[str, Value]

OPENAI: Final = "https://api.openai.com/v1"
ERROR_TYPE: Final = "error.type"
PLACE: Final = "backtalk.place"
_MAX_TEXT: Final = 256
_MAX_INT: Final = 2**63
# by the end of the host's name; who is not here is known by the name of the endpoint
_PROVIDERS: Final = {
    "openai.azure.com": "azure.ai.openai",
    "inference.ai.azure.com": "azure.ai.inference",
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "amazonaws.com": "aws.bedrock",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "groq.com": "groq",
    "cloud.ibm.com": "ibm.watsonx.ai",
    "mistral.ai": "mistral_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
# what of a body is told, and of which type it has to be
_NUMBERS: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
_INTEGERS: Final = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "top_k": "gen_ai.request.top_k",
}
_USAGE: Final = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """An endpoint as spans name it."""

    provider: str
    address: str
    port: int
    url: str

    @classmethod
    def of(cls, name: str, base_url: str | None) -> Peer:
        parts = urlsplit(base_url or OPENAI)
        host = parts.hostname or ""
        provider = next((told for end, told in _PROVIDERS.items() if f".{host}".endswith(f".{end}")), name)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        return cls(provider, host, port, f"{parts.geturl().rstrip('/')}/chat/completions")


def processed(delivery: Delivery) -> tuple[str, Attributes]:
    """Return name and attributes of the span of a delivery."""
    envelope = delivery.envelope
    told: Attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": delivery.queue,
        "messaging.message.body.size": len(envelope.body),
        "backtalk.attempt": envelope.attempt,
        "backtalk.redelivered": delivery.redelivered,
    }
    return f"process {delivery.queue}", told | _named(envelope.message_id, envelope.correlation_id)


def sent(address: str, to: Envelope) -> tuple[str, Attributes]:
    """Return name and attributes of the span of an answer to a request; addresses are too many to name it by."""
    told: Attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": text(address),
        "messaging.rabbitmq.destination.routing_key": text(address),
    }
    head, replies, _ = address.partition(".replies.")
    template = f"{head}{replies}{{name}}" if replies else "(temporary)"
    if replies:
        told["messaging.destination.template"] = text(template)
    return text(f"send {template}"), told | _named(None, to.correlation_id or to.message_id)


def settled(how: str, answer: Answer | None) -> Attributes:
    """Return what is told of a delivery in the end; one that failed is an error."""
    told: Attributes = {"backtalk.outcome": how}
    if answer is not None:
        told["backtalk.status"] = answer.status
        if answer.error is not None and answer.status == "failed":
            told[ERROR_TYPE] = answer.error.code.value
    return told


def asked(peer: Peer, body: Mapping[str, Any], place: str, *, streams: bool) -> tuple[str, Attributes]:
    """Return name and attributes of the span of a model call."""
    model = text(body.get("model"))
    told: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": peer.provider,
        "gen_ai.request.model": model,
        "server.address": peer.address,
        "server.port": peer.port,
        PLACE: text(place),
    }
    if streams:
        told["gen_ai.request.stream"] = True
    count = body.get("n")
    if _whole(count) and count != 1:
        told["gen_ai.request.choice.count"] = count
    told |= {key: float(body[name]) for name, key in _NUMBERS.items() if _number(body.get(name))}
    told |= {key: body[name] for name, key in _INTEGERS.items() if _whole(body.get(name))}
    return f"chat {model}", told


def answered(completion: Mapping[str, Any]) -> Attributes:
    """Return what is told of a completion: all but what it says."""
    told: Attributes = {
        f"gen_ai.response.{name}": text(completion[name])
        for name in ("id", "model")
        if isinstance(completion.get(name), str)
    }
    reasons = [choice.get("finish_reason") for choice in completion["choices"]]
    told["gen_ai.response.finish_reasons"] = tuple(text(reason or "") for reason in reasons)
    usage = completion.get("usage") or {}
    return told | {key: usage[name] for name, key in _USAGE.items() if _whole(usage.get(name))}


def posted(peer: Peer, resent: int) -> tuple[str, Attributes]:
    """Return name and attributes of the span of one HTTP request."""
    told: Attributes = {
        "http.request.method": "POST",
        "url.full": peer.url,
        "server.address": peer.address,
        "server.port": peer.port,
    }
    return "POST", told | ({"http.request.resend_count": resent} if resent else {})


def failed(error: BaseException) -> Attributes:
    """Return what is told of an error: its kind. What it says may be an endpoint's words, or a sender's."""
    status = error.error.details.get("status") if isinstance(error, BacktalkError) else None
    told: Attributes = {ERROR_TYPE: _kind(error) if status is None else str(status)}
    return told | ({"http.response.status_code": status} if _whole(status) else {})


def _kind(error: BaseException) -> str:
    if isinstance(error, BacktalkError):
        return error.error.code.value
    return "cancelled" if isinstance(error, CancelledError) else type(error).__name__


def text(value: object) -> str:
    """Return a text that every exporter takes: of bounded length, and without half characters."""
    return str(value)[:_MAX_TEXT].encode(errors="replace").decode()


def _named(message: str | None, conversation: str | None) -> Attributes:
    ids = {"messaging.message.id": message, "messaging.message.conversation_id": conversation}
    return {name: text(value) for name, value in ids.items() if value}


def _number(value: object) -> bool:
    return isinstance(value, float) or _whole(value)


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and -_MAX_INT <= value < _MAX_INT
