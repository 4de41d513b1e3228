"""Tools as the tape holds them: texts that are variables stand as references, and what was injected is kept.

A job carries its tools in OpenAI's form. A `description` of a tool or of a parameter, and a prefix or suffix of the
tool templates, may be a Variable there; in the recorded operation `{"variable": id}` stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, JsonValue, StrictStr

from backtalk.wire.base import Frozen, Identifier, Role, absent, empty, escape, tag, text_or

MAX_TOKEN: Final = 256

ToolMode: TypeAlias = Literal["inject", "native"]
Side: TypeAlias = Literal["top", "bottom"]
Tool: TypeAlias = dict[str, JsonValue]

# keywords of JSON Schema whose values map names to schemas, so that "description" is a name there
_NAMED: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
# and those whose values are schemas; all others may be anything
_NESTED: Final = frozenset(
    {"parameters", "items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"}
    | {"additionalProperties", "unevaluatedProperties", "propertyNames"}
    | {"allOf", "anyOf", "oneOf", "not", "if", "then", "else"}
)

Replace: TypeAlias = Callable[[str, dict[str, Any]], Any]


class VariableRef(Frozen):
    """Stands where a text would stand, and names the variable that holds it."""

    variable: Identifier


RecordedText: TypeAlias = Annotated[
    Annotated[StrictStr, tag("text")] | Annotated[VariableRef, tag("object")],
    Discriminator(
        text_or(VariableRef),
        custom_error_type="recorded_text",
        custom_error_message="expected text, or an object that names a `variable`",
    ),
]


class RecordedWords(Frozen):
    """What stands around the tools; null means the worker's own words, an empty text none."""

    prefix: RecordedText | None = Field(default=None, exclude_if=absent)
    suffix: RecordedText | None = Field(default=None, exclude_if=absent)


class RecordedTemplates(Frozen):
    """The templates that a request brought along."""

    function_list: RecordedWords | None = Field(default=None, exclude_if=absent)
    force_call: RecordedWords | None = Field(default=None, exclude_if=absent)
    position: Side | None = Field(default=None, exclude_if=absent)

    def refs(self) -> Iterator[tuple[str, str]]:
        """Yield path and id of every variable in the templates."""
        for name, words in (("function_list", self.function_list), ("force_call", self.force_call)):
            for side in ("prefix", "suffix"):
                text = getattr(words, side, None)
                if isinstance(text, VariableRef):
                    yield f"tool_templates/{name}/{side}", text.variable


Form: TypeAlias = Literal["text", "json", "words"]


class Insert(Frozen):
    """A variable inside injected text.

    `form` says how: as it is (`text`), inside a JSON string (`json`), or with the call token in the place of
    `{{func_call_token}}` (`words`).
    """

    variable: Identifier
    form: Form = "text"


Segment: TypeAlias = Annotated[
    Annotated[StrictStr, tag("text")] | Annotated[Insert, tag("object")],
    Discriminator(
        text_or(Insert),
        custom_error_type="segment",
        custom_error_message="expected text, or an object that names a `variable`",
    ),
]


class Rewritten(Frozen):
    """How one message was sent where that is not as it stands; what is absent stayed.

    `content` replaces the text, `before` and `after` stand around it; `joined`: in one message with the one before.
    """

    message: Annotated[int, Field(ge=0)]
    role: Role | None = Field(default=None, exclude_if=absent)
    content: str | None = Field(default=None, exclude_if=absent)
    before: str = Field(default="", exclude_if=empty)
    after: str = Field(default="", exclude_if=empty)
    joined: bool = Field(default=False, exclude_if=empty)


class Turn(Frozen):
    """One time that a choice was asked again: the reply that could not be used, and what the model was told."""

    sample: int | None = Field(default=None, exclude_if=absent)
    choice: int
    reply: str
    told: str

    def messages(self) -> list[dict[str, Any]]:
        """Return what the turn added to the conversation."""
        # an empty message is refused by many endpoints
        said = [{"role": "assistant", "content": self.reply}] if self.reply else []
        return [*said, {"role": "user", "content": self.told}]


class Injected(Frozen):
    """What the worker made of the messages before it sent them; placeholders are not in it, they follow.

    `block` is the list of tools, put on one `side` of the first message; in `native` mode the endpoint got the tools.
    """

    mode: ToolMode
    call_token: str | None = Field(default=None, max_length=MAX_TOKEN, exclude_if=absent)
    side: Side = "top"
    block: Annotated[tuple[Segment, ...], Field(fail_fast=True, exclude_if=empty)] = ()
    messages: Annotated[tuple[Rewritten, ...], Field(fail_fast=True, exclude_if=empty)] = ()
    turns: Annotated[tuple[Turn, ...], Field(fail_fast=True, exclude_if=empty)] = ()

    @cached_property
    def shown(self) -> Mapping[str, int]:
        """The variables whose text is in the block, by id, and which segment each is first."""
        found: dict[str, int] = {}
        for at, segment in enumerate(self.block):
            if isinstance(segment, Insert):
                found.setdefault(segment.variable, at)
        return found

    @cached_property
    def tries(self) -> Mapping[tuple[int | None, int], Sequence[Turn]]:
        """The turns of each sample and choice, in order."""
        found: dict[tuple[int | None, int], list[Turn]] = {}
        for turn in self.turns:
            found.setdefault((turn.sample, turn.choice), []).append(turn)
        return found


def map_descriptions(tools: Iterable[Tool], replace: Replace) -> tuple[Tool, ...]:
    """Return tools in which every description that is an object is replaced, by `replace(path, object)`."""
    return tuple(_tool(tool, f"tools/{at}", replace) for at, tool in enumerate(tools))


def refs_in(tools: Iterable[Tool]) -> list[tuple[str, str]]:
    """Return path and id of every variable in recorded tools, in order."""
    found: list[tuple[str, str]] = []

    def note(path: str, described: dict[str, Any]) -> Any:
        id = described.get("variable")
        if described.keys() != {"variable"} or not isinstance(id, str) or not id:
            raise ValueError(f"{path}: expected text, or an object that names a `variable`")
        found.append((path, id))
        return described

    map_descriptions(tools, note)
    return found


def _tool(tool: Tool, path: str, replace: Replace) -> Tool:
    function = tool.get("function")
    # most tools are plain, and looking costs a quarter of walking
    if not isinstance(function, dict) or not _described_by_an_object(function):
        return tool
    return {**tool, "function": _schema(function, f"{path}/function", replace)}


def _described_by_an_object(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("description"), dict) or any(
            _described_by_an_object(item) for item in value.values() if isinstance(item, dict | list)
        )
    return any(_described_by_an_object(item) for item in value if isinstance(item, dict | list))


def _schema(value: Any, path: str, replace: Replace) -> Any:
    """Walk a schema, or a function: both describe themselves by `description`."""
    if isinstance(value, list):
        return [_schema(item, f"{path}/{at}", replace) for at, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {key: _keyword(key, item, f"{path}/{escape(key)}", replace) for key, item in value.items()}


def _keyword(key: str, value: Any, path: str, replace: Replace) -> Any:
    if key == "description" and isinstance(value, dict):
        return replace(path, value)
    if key in _NAMED and isinstance(value, Mapping):
        return {name: _schema(item, f"{path}/{escape(name)}", replace) for name, item in value.items()}
    return _schema(value, path, replace) if key in _NESTED else value
