"""Operations: what the workers take in and send out, and where the answer to a request goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backtalk.asyncapi.channels import CONTROL, KINDS, REPLIES, RESULTS, by_key, dead
from backtalk.asyncapi.messages import AMQP, DEAD
from backtalk.wire.chunk import CHUNK_TYPE
from backtalk.wire.control import CONTROL_TYPE
from backtalk.wire.kinds import BACKWARD, FORWARD

_TAKEN: Final = {"amqp": {"ack": True, **AMQP}}
_NAMES: Final[Mapping[str, str]] = {FORWARD.role: "completeJob", BACKWARD.role: "giveGradients"}
_ASKED: Final[Mapping[str, str]] = {
    FORWARD.role: "Complete a job",
    BACKWARD.role: "Turn feedback into gradients",
}
_ANSWERED: Final[Mapping[str, tuple[str, ...]]] = {
    FORWARD.role: (FORWARD.answer_type, CHUNK_TYPE),
    BACKWARD.role: (BACKWARD.answer_type,),
}
_SAID: Final[Mapping[str, str]] = {
    FORWARD.role: "One terminal answer, always. With `stream: true` chunks come before it.",
    BACKWARD.role: "One terminal answer, always.",
}


def operations() -> dict[str, Any]:
    """Return all operations, seen from the workers: a caller does the opposite."""
    asked: dict[str, Any] = {}
    for role in KINDS:
        asked[_NAMES[role]] = _asked(role, role, _ASKED[role])
        asked[f"{_NAMES[role]}ByExchange"] = _asked(
            role, by_key(role), f"{_ASKED[role]}, sent to the exchange"
        )
    answers = [kind.answer_type for kind in KINDS.values()]
    return {
        **asked,
        "cancelRequest": {
            **_operation("receive", CONTROL, [CONTROL_TYPE], "Cancel a request"),
            "bindings": {"amqp": {"ack": False, **AMQP}},
        },
        "keepAnswer": _sent(
            RESULTS, answers, "Answer a request that names no address, or none that works", mandatory=False
        ),
        **{
            f"file{role.title()}Request": _sent(
                dead(role),
                [f"{DEAD}{kind.request_type}"],
                "File a request that could not be processed",
                mandatory=True,
            )
            for role, kind in KINDS.items()
        },
    }


def _asked(role: str, channel: str, summary: str) -> dict[str, Any]:
    return {
        **_operation("receive", channel, [KINDS[role].request_type], summary),
        "description": _SAID[role],
        "bindings": _TAKEN,
        "reply": {
            "address": {
                "location": "$message.header#/reply_to",
                "description": "AMQP's property `reply_to` names the queue.",
            },
            "channel": {"$ref": f"#/channels/{REPLIES}"},
            "messages": _of_channel(REPLIES, _ANSWERED[role]),
        },
    }


def _sent(channel: str, types: list[str], summary: str, *, mandatory: bool) -> dict[str, Any]:
    """Return what is published; the broker confirms it before the request is acknowledged."""
    amqp = {"deliveryMode": 2, "mandatory": mandatory, "timestamp": True, **AMQP}
    return {**_operation("send", channel, types, summary), "bindings": {"amqp": amqp}}


def _operation(action: str, channel: str, types: list[str], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": _of_channel(channel, types),
    }


def _of_channel(channel: str, types: tuple[str, ...] | list[str]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{channel}/messages/{type}"} for type in types]
