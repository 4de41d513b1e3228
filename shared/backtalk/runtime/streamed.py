"""A completion put together from the chunks that spell it; it knows no HTTP and no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import StringIO
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import to_json

Json: TypeAlias = dict[str, Any]

# more choices, or calls in a choice, than anybody asks for
_MOST: Final = 1024
# what a delta may repeat, and adds nothing to
_SAID_ONCE: Final = frozenset({"role", "id", "type"})

_Index: TypeAlias = Annotated[int, Field(ge=0, lt=_MOST)]


class Broken(Exception):
    """Raised where chunks spell no completion."""


class _Open(BaseModel):
    """Fields that have their type, and others that are any JSON."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]


class _CallDelta(_Open):
    index: _Index
    function: dict[str, JsonValue] | None = None
    custom: dict[str, JsonValue] | None = None


class _Delta(_Open):
    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _ChoiceDelta(_Open):
    index: _Index
    delta: _Delta = _Delta()
    finish_reason: str | None = None
    logprobs: dict[str, JsonValue] | None = None


class _Chunk(_Open):
    choices: list[_ChoiceDelta]
    usage: dict[str, JsonValue] | None = None


class Assembly:
    """A completion that is still being spelled."""

    def __init__(self) -> None:
        self._head: Json = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: Json | None = None

    @property
    def begun(self) -> bool:
        return bool(self._head or self._choices)

    def add(self, given: object) -> Json:
        """Take in the next chunk, and return it. Raises Broken where it is none."""
        chunk = _checked(given)
        for name, value in chunk.items():
            if name not in {"choices", "usage"}:
                # the first that says something: Azure opens with a chunk whose id and model are empty
                self._head[name] = self._head.get(name) or value
        for choice in chunk["choices"]:
            self._choices.setdefault(choice["index"], _Choice()).add(choice)
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]
        return chunk

    def whole(self) -> Json:
        """Return the completion, shaped as if it had not been streamed. Raises Broken where it has no end."""
        if not self._choices:
            raise Broken("it ended without any choice")
        choices = [self._choices[index].whole(index) for index in sorted(self._choices)]
        usage = {} if self._usage is None else {"usage": self._usage}
        return {**self._head, "object": "chat.completion", "choices": choices, **usage}


@dataclass(slots=True)
class _Choice:
    """A choice that is still being spelled; `rest` is what stands beside its message."""

    message: Json = field(default_factory=lambda: {"role": None, "content": None})
    calls: dict[int, Json] = field(default_factory=dict)
    rest: Json = field(default_factory=dict)

    def add(self, choice: Json) -> None:
        said = dict(choice.get("delta", {}))
        for call in said.pop("tool_calls", None) or ():
            known = self.calls.setdefault(call["index"], {})
            _grow(known, {name: value for name, value in call.items() if name != "index"})
        _grow(self.message, said)
        for name, value in choice.items():
            if name not in {"index", "delta"}:
                self._note(name, value)

    def _note(self, name: str, value: Any) -> None:
        known = self.rest.get(name)
        if name == "logprobs":
            self.rest[name] = _grown(known, value)
        else:
            # some servers say "" where others say null
            self.rest[name] = known if value is None or value == "" else value

    def whole(self, index: int) -> Json:
        if not self.rest.get("finish_reason"):
            raise Broken(f"it ended before choice {index} did")
        message = _whole(self.message) | {"role": self.message["role"] or "assistant"}
        if self.calls:
            message["tool_calls"] = [_whole(self.calls[at]) for at in sorted(self.calls)]
        return {"index": index, "message": message, **_whole(self.rest)}


def _checked(chunk: object) -> Json:
    try:
        _Chunk.model_validate(chunk)
        # half of a character is a text to Python, but to nobody else
        to_json(chunk)
    except ValidationError as error:
        raise Broken(f"a chunk has {error.error_count()} fields missing or of the wrong type") from None
    except ValueError:
        raise Broken("a chunk is not JSON") from None
    return chunk  # type: ignore[return-value]


def _grow(known: Json, delta: Json) -> None:
    for name, new in delta.items():
        old = known.get(name)
        known[name] = old or new if name in _SAID_ONCE else _grown(old, new)


def _grown(old: Any, new: Any) -> Any:
    """Return `old`, with `new` at its end; only what was grown here is changed, never a chunk."""
    if new is None:
        return old
    match _seed(new) if old is None else old, new:
        case StringIO() as text, str():
            # a text that grows as a str would be copied with every piece
            text.write(new)
            return text
        case list() as items, list():
            items.extend(new)
            return items
        case dict() as fields, dict():
            _grow(fields, new)
            return fields
        case int() | float(), int() | float():
            return new
    raise Broken("a field changes its type")


def _seed(new: Any) -> Any:
    match new:
        case str():
            return StringIO()
        case list():
            return []
        case dict():
            return {}
    return new


def _whole(value: Any) -> Any:
    if isinstance(value, StringIO):
        return value.getvalue()
    return {name: _whole(known) for name, known in value.items()} if isinstance(value, dict) else value
