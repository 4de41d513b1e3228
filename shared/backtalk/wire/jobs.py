"""What the forward worker is asked and what it answers. Any OpenAI chat-completions body is a valid job."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from backtalk.wire.answer import Answer
from backtalk.wire.base import (
    BRANCH,
    SCHEMA_VERSION,
    Data,
    Frozen,
    Identifier,
    SchemaVersion,
    absent,
    one_or_list,
    tag,
)
from backtalk.wire.graph import Graph, Role

DEFAULT_ENDPOINT: Final = "openai"
MAX_BATCH: Final = 256
MAX_CHOICES: Final = 128


# pydantic would take a number, or a text of digits, for seconds since 1970
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


def _rfc3339(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _DATE.match(value)):
        raise ValueError("write the time as RFC 3339 text, e.g. 2026-01-31T12:00:00Z")
    return value


Deadline: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_rfc3339)]


class Options(Frozen):
    """The `backtalk` object of a request; never forwarded to an endpoint."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    endpoint: str | None = Field(default=None, exclude_if=absent)
    deadline: Deadline | None = Field(default=None, exclude_if=absent)
    metadata: dict[str, JsonValue] | None = Field(default=None, exclude_if=absent)


class JobOptions(Options):
    record: Literal["auto", "always", "never"] = "auto"


class InlineVariable(Frozen):
    """A Variable as a job carries it; what is left out is filled in by the worker."""

    data: Data
    id: Identifier | None = Field(default=None, exclude_if=absent)
    role: str | None = Field(default=None, exclude_if=absent)
    requires_grad: StrictBool = False
    name: str | None = Field(default=None, exclude_if=absent)
    producer: Identifier | None = Field(default=None, exclude_if=absent)

    @model_validator(mode="after")
    def _written_has_id(self) -> InlineVariable:
        if self.producer and not self.id:
            raise ValueError("id: is missing; a variable with a producer is sent as the result gave it")
        return self


def _content_kind(item: Any) -> str | None:
    if isinstance(item, str):
        return f"{BRANCH}text"
    if isinstance(item, InlineVariable):
        return f"{BRANCH}variable"
    if isinstance(item, dict):
        return f"{BRANCH}part" if "type" in item else f"{BRANCH}variable" if "data" in item else None
    return None


ContentItem: TypeAlias = Annotated[
    Annotated[StrictStr, tag("text")]
    | Annotated[InlineVariable, tag("variable")]
    | Annotated[dict[str, JsonValue], tag("part")],
    Discriminator(
        _content_kind,
        custom_error_type="content_item",
        custom_error_message="expected a string, a Variable (an object with `data`) "
        "or an OpenAI part (an object with `type`)",
    ),
]


def _variable_like(value: Any) -> str | None:
    if isinstance(value, str):
        return f"{BRANCH}text"
    return f"{BRANCH}variable" if isinstance(value, dict | InlineVariable) else None


InputItem: TypeAlias = Annotated[
    Annotated[StrictStr, tag("text")] | Annotated[InlineVariable, tag("variable")],
    Discriminator(
        _variable_like,
        custom_error_type="input_item",
        custom_error_message="expected a string, a Variable (an object with `data`) or a list of them",
    ),
]


def _content_shape(content: Any) -> str:
    return f"{BRANCH}text" if content is None or isinstance(content, str) else f"{BRANCH}list"


class Message(BaseModel):
    """A chat message; fields of OpenAI that Backtalk does not know pass through."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    role: Role
    content: Annotated[
        Annotated[StrictStr | None, tag("text")]
        | Annotated[tuple[ContentItem, ...], tag("list"), Field(fail_fast=True, min_length=1)],
        Discriminator(_content_shape),
    ] = None

    @model_validator(mode="after")
    def _has_something(self) -> Message:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"content: is missing; a {self.role} message needs it")
        return self


Input: TypeAlias = Annotated[
    Annotated[InputItem, tag("one")]
    | Annotated[
        tuple[InputItem, ...], tag("list"), Field(fail_fast=True, min_length=1, max_length=MAX_BATCH)
    ],
    Discriminator(one_or_list),
]


def _without_braces(name: str) -> str:
    if not name or "{" in name or "}" in name:
        raise ValueError("the name of an input should be a text without braces")
    return name


InputName: TypeAlias = Annotated[str, AfterValidator(_without_braces)]


class CompletionJob(BaseModel):
    """A chat-completions request with Variables, placeholders and batches on top.

    Every field that is not named here goes to the endpoint untouched.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    model: StrictStr = Field(min_length=1)
    messages: Annotated[tuple[Message, ...], Field(fail_fast=True)] = Field(min_length=1)
    inputs: dict[InputName, Input] = Field(default_factory=dict)
    tools: Annotated[tuple[dict[str, JsonValue], ...], Field(fail_fast=True)] | None = Field(
        default=None, exclude_if=absent
    )
    tool_choice: JsonValue = Field(default=None, exclude_if=absent)
    n: Annotated[StrictInt, Field(ge=1, le=MAX_CHOICES)] | None = Field(default=None, exclude_if=absent)
    stream: StrictBool | None = Field(default=None, exclude_if=absent)
    backtalk: JobOptions = JobOptions()

    @model_validator(mode="after")
    def _supported(self) -> CompletionJob:
        if self.stream:
            raise ValueError("stream: streaming is not supported yet; leave `stream` out")
        if "tool_templates" in (self.model_extra or {}):
            raise ValueError("tool_templates: templates for tools are not supported yet; leave them out")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """The completion arguments: all that Backtalk does not interpret, and `n`."""
        arguments = dict(self.model_extra or {})
        if self.n is not None:
            arguments["n"] = self.n
        return arguments


class CompletionResult(Answer):
    """The answer to a job: one completion per batch item, index-aligned, and the recorded fragment.

    `outputs` holds one variable id per choice; `output` is the first. Without a recording there are none.
    """

    completions: tuple[dict[str, Any], ...] = ()
    outputs: tuple[str, ...] = ()
    output: str | None = None
    graph: Graph | None = None
    graph_omitted: bool = Field(default=False, exclude_if=lambda omitted: not omitted)

    def lighter(self) -> Self | None:
        return self.model_copy(update={"graph": None, "graph_omitted": True}) if self.graph else None

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The first choice's text of every item, in order; None where the item failed or said nothing."""
        return tuple(_first_text(completion) for completion in self.completions)

    @property
    def text(self) -> str | None:
        """The first choice's text of the first item."""
        return self.texts[0] if self.completions else None


def _first_text(completion: dict[str, Any]) -> str | None:
    choices = completion.get("choices") or [{}]
    text = choices[0].get("message", {}).get("content")
    return text if isinstance(text, str) else None
