"""What is sent: ordinary work whose every model call bears a token of its own, jobs that kill, and junk."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, TypeAlias

from backtalk.transport.envelope import Envelope
from backtalk.wire.kinds import Role

Kind: TypeAlias = Literal["job", "batch", "stream", "feedback", "deadly", "junk"]

# of ordinary work, what is sent how often
ORDINARY: Final[dict[Kind, int]] = {"job": 6, "batch": 2, "stream": 1, "feedback": 3}
MODEL: Final = "chaos"
_TOKEN: Final = re.compile(r"\[\[([a-z]+-\d+:\d+)\]\]")
_BATCH: Final = 4


@dataclass(frozen=True, slots=True)
class Message:
    """One message as its sender knows it; `reply` is false where it names no address for the answer."""

    id: str
    kind: Kind
    body: bytes
    role: Role = "forward"
    type: str | None = None
    encoding: str | None = None
    reply: bool = True

    @property
    def ordinary(self) -> bool:
        return self.kind in ORDINARY

    def envelope(self, reply_to: str) -> Envelope:
        return Envelope(
            self.body,
            message_id=self.id,
            correlation_id=self.id,
            reply_to=reply_to if self.reply else None,
            type=self.type,
            content_encoding=self.encoding,
        )


class Mint:
    """Makes messages of numbered ids."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._made = 0

    def ordinary(self) -> Message:
        (kind,) = self._rng.choices(list(ORDINARY), weights=list(ORDINARY.values()))
        id = self._id(kind)
        if kind == "feedback":
            body = _chain(id) if self._rng.random() < 0.5 else _samples(id)
            return Message(id, kind, _bytes(body), role="backward", type="feedback.v1")
        items = _BATCH if kind == "batch" else 1
        return Message(id, kind, _bytes(_job(id, items, stream=kind == "stream")), type="completion.job.v1")

    def deadly(self) -> Message:
        return Message(
            self._id("deadly"),
            "deadly",
            _bytes({"model": MODEL, "messages": [{"role": "user", "content": "die"}]}),
        )

    def junk(self) -> Message:
        body, type, encoding = self._rng.choice(_JUNK)
        role: Role = self._rng.choice(("forward", "backward"))
        answered = self._rng.random() < 0.7
        return Message(self._id("junk"), "junk", body, role, type, encoding, answered)

    def _id(self, kind: Kind) -> str:
        self._made += 1
        return f"{kind}-{self._made}"


def tokens(text: str) -> str:
    """Return the tokens of a prompt: together they name one call of one message; none for a probe."""
    return " ".join(sorted(set(_TOKEN.findall(text))))


def _token(id: str, item: int) -> str:
    return f"[[{id}:{item}]]"


def _job(id: str, items: int, *, stream: bool) -> dict[str, Any]:
    asked = [f"What is {_token(id, item)}?" for item in range(items)]
    prompt = {"data": "Answer in one sentence: ", "role": "instruction", "requires_grad": True}
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": [prompt, "{question}"]}],
        "inputs": {"question": asked if items > 1 else asked[0]},
        **({"stream": True} if stream else {}),
    }


def _samples(id: str) -> dict[str, Any]:
    """Return feedback on a batch of answers to one prompt: a call for each of them."""
    asked = [f"What is {_token(id, item)}?" for item in range(_BATCH)]
    graph = {
        "variables": [
            _leaf("prompt", "Answer in one sentence.", requires_grad=True),
            _leaf("question", asked),
            _written("answer", [f"It is {item}." for item in range(_BATCH)], "call"),
        ],
        "operations": [_call("call", ["prompt", "question"], "answer")],
    }
    said = [f"Answer {item} is too short." for item in range(_BATCH)]
    return {"graph": graph, "feedback": [{"variable": "answer", "text": said}]}


def _chain(id: str) -> dict[str, Any]:
    """Return feedback on the last of two answers, each made from the one before: a call for each, in turn."""
    graph = {
        "variables": [
            _leaf("first", f"Answer {_token(id, 0)} in one sentence.", requires_grad=True),
            _written("draft", "It is so.", "call-0"),
            _leaf("second", f"Shorten what {_token(id, 1)} says."),
            _written("answer", "So.", "call-1"),
        ],
        "operations": [_call("call-0", ["first"], "draft"), _call("call-1", ["second", "draft"], "answer")],
    }
    return {"graph": graph, "feedback": [{"variable": "answer", "text": "It is too short."}]}


def _leaf(id: str, data: str | list[str], *, requires_grad: bool = False) -> dict[str, Any]:
    return {"id": id, "data": data, "role": f"the {id}", "requires_grad": requires_grad}


def _written(id: str, data: str | list[str], producer: str) -> dict[str, Any]:
    return {**_leaf(id, data, requires_grad=True), "producer": producer}


def _call(id: str, reads: Sequence[str], writes: str) -> dict[str, Any]:
    return {
        "id": id,
        "op": "chat_completion",
        "endpoint": "openai",
        "model": MODEL,
        "messages": [{"role": "user", "content": list(reads)}],
        "outputs": [writes],
    }


def _bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


# body, type, content encoding
_JUNK: Final[tuple[tuple[bytes, str | None, str | None], ...]] = (
    (b"", None, None),
    (b"this is no JSON", None, None),
    (b"[1, 2, 3]", None, None),
    (b"\xff\xfe\x00", None, None),
    (b'{"model": NaN}', None, None),
    (b'{"model": 1, "graph": 2}', None, None),
    (b"[" * 5000, None, None),
    (b"{}", "completion.job.v9", None),
    (b"{}", "postcard", None),
    (b"{}", None, "gzip"),
    (b"{}", None, "rot13"),
)
