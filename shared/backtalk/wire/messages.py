"""What stands in the messages and inputs of a job: texts, Variables, and parts of other kinds."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StrictBool,
    StrictStr,
    model_validator,
)

from backtalk.wire.base import BRANCH, Data, Frozen, Identifier, Role, absent, one_or_list, tag, text_or
from backtalk.wire.limits import CONTRACT

MAX_BATCH: Final = CONTRACT.batch


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


InputItem: TypeAlias = Annotated[
    Annotated[StrictStr, tag("text")] | Annotated[InlineVariable, tag("object")],
    Discriminator(
        text_or(InlineVariable),
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
