"""The OpenAI shapes of the simulated model: requests read, completions and chunks written; no HTTP."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

CREATED = 1_700_000_000  # a constant, so that equal requests have equal answers
FINGERPRINT = "simulated"
_SKIMMED = 20_000  # characters read at either end of a long text
_PIECE = 6  # characters in one streamed delta
_ERRORS = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("not_found_error", "not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}

Json = dict[str, Any]


class Part(BaseModel):
    type: str
    text: str = ""


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""

    @property
    def attachments(self) -> int:
        parts = self.content if isinstance(self.content, list) else []
        return sum(part.type not in ("text", "refusal") for part in parts)


class Function(BaseModel):
    name: str
    parameters: Json | None = None


class Tool(BaseModel):
    type: str = "function"
    function: Function | None = None


class ResponseFormat(BaseModel):
    type: str


class StreamOptions(BaseModel):
    include_usage: bool | None = None


def _skimmed(text: str) -> str:
    """Both ends of a very long text: reading all of it for keywords would hold everybody up for seconds."""
    return text if len(text) <= 2 * _SKIMMED else f"{text[:_SKIMMED]}\n{text[-_SKIMMED:]}"


class Request(BaseModel):
    """The fields of a chat-completions request that change the reply; all others are allowed and ignored."""

    model: str
    messages: list[Message] = Field(min_length=1)
    tools: list[Tool] | None = None
    tool_choice: str | Tool | None = None
    response_format: ResponseFormat | None = None
    n: int | None = Field(default=None, ge=1, le=128)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @cached_property
    def instructions(self) -> str:
        return _skimmed("\n".join(m.text for m in self.messages if m.role in ("system", "developer")))

    @cached_property
    def question(self) -> str:
        """The last message of the user, which a reply is about."""
        return _skimmed(next((m.text for m in reversed(self.messages) if m.role == "user"), ""))

    @cached_property
    def text(self) -> str:
        return "\n".join(message.text for message in self.messages)

    @property
    def functions(self) -> list[Function]:
        return [tool.function for tool in self.tools or [] if tool.function]

    @property
    def forced_function(self) -> str | None:
        choice = self.tool_choice
        return choice.function.name if isinstance(choice, Tool) and choice.function else None

    @property
    def wants_usage_streamed(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


@dataclass(frozen=True)
class ToolCall:
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """One choice: a text, or calls of tools and no text."""

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"


def read_request(body: Any) -> Request:
    """Raise ValueError with a sentence for people when the body is no chat-completions request."""
    try:
        request = Request.model_validate(body)
    except ValidationError as refusal:
        # The error with the longest path is the one of the union member that came nearest.
        nearest = max(refusal.errors(), key=lambda error: len(error["loc"]))
        raise ValueError(f"{'.'.join(map(str, nearest['loc'])) or 'body'}: {nearest['msg']}") from refusal
    _check_tool_choice(request)
    return request


def _check_tool_choice(request: Request) -> None:
    names = [function.name for function in request.functions]
    if request.tool_choice == "required" and not names:
        raise ValueError("tool_choice: it is `required`, but `tools` has no function")
    if request.forced_function is not None and request.forced_function not in names:
        raise ValueError(f"tool_choice: `tools` has no function named {request.forced_function!r}")


def completion(body: Json, request: Request, replies: Sequence[Reply]) -> Json:
    key = _key(body)
    choices = [_choice(key, index, reply) for index, reply in enumerate(replies)]
    return {**_head(key, request, "chat.completion"), "choices": choices, "usage": _usage(request, replies)}


def chunks(body: Json, request: Request, replies: Sequence[Reply]) -> Iterator[Json]:
    """The chunks of a stream; those of several choices take turns, as they do on a real server."""
    head = _head(key := _key(body), request, "chat.completion.chunk")
    usage: Json = {"usage": None} if request.wants_usage_streamed else {}
    streams = [_choice_deltas(key, index, reply) for index, reply in enumerate(replies)]
    for choice in filter(None, itertools.chain.from_iterable(itertools.zip_longest(*streams))):
        yield {**head, "choices": [choice], **usage}
    if request.wants_usage_streamed:
        yield {**head, "choices": [], "usage": _usage(request, replies)}


def error_body(status: int, message: str, code: str | None = None) -> Json:
    """OpenAI's error object; the text says that no real model was asked."""
    other = "server_error" if status >= 500 else "invalid_request_error"
    kind, usual_code = _ERRORS.get(status, (other, None))
    error = {"message": f"{message} (simulated)", "type": kind, "param": None, "code": code or usual_code}
    return {"error": error}


def _key(body: Json) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _head(key: str, request: Request, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{key[:24]}",
        "object": kind,
        "created": CREATED,
        "model": request.model,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(key: str, index: int, reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = _tool_calls(key, index, reply)
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}


def _tool_calls(key: str, index: int, reply: Reply) -> list[Json]:
    def one(position: int, call: ToolCall) -> Json:
        identity = hashlib.sha256(f"{key}/{index}/{position}".encode()).hexdigest()[:24]
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": f"call_{identity}", "type": "function", "function": function}

    return [one(position, call) for position, call in enumerate(reply.tool_calls)]


def _choice_deltas(key: str, index: int, reply: Reply) -> Iterator[Json]:
    for delta in _deltas(key, index, reply):
        yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": reply.finish_reason}


def _deltas(key: str, index: int, reply: Reply) -> Iterator[Json]:
    yield {"role": "assistant", "content": None if reply.text is None else ""}
    yield from ({"content": piece} for piece in _pieces(reply.text or ""))
    for position, call in enumerate(_tool_calls(key, index, reply)):
        function = call["function"]
        yield {"tool_calls": [{"index": position, **call, "function": {**function, "arguments": ""}}]}
        for piece in _pieces(function["arguments"]):
            yield {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _usage(request: Request, replies: Sequence[Reply]) -> Json:
    written = sum(_tokens(reply) for reply in replies)
    read = _about(request.text)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _tokens(reply: Reply) -> int:
    return _about((reply.text or "") + "".join(call.name + call.arguments for call in reply.tool_calls))


def _about(text: str) -> int:
    """Four characters to the token; a real tokenizer would be the slowest part of a test."""
    return max(1, math.ceil(len(text) / 4))
