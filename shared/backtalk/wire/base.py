"""The one base of everything on the wire, and the values a Variable may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
)
from pydantic_core import PydanticCustomError

SCHEMA_VERSION: Final = 1


class Frozen(BaseModel):
    """Requests and graphs: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Lenient(BaseModel):
    """Parts of answers: frozen, and readers ignore fields of later versions."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


def absent(value: Any) -> bool:
    """Leave an optional field out of the JSON when there is nothing in it."""
    return value is None


def empty(value: Any) -> bool:
    """Leave a field out of the JSON that is empty or false."""
    return not value


Identifier: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
Role: TypeAlias = Literal["developer", "system", "user", "assistant", "tool", "function"]
Number: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]

# marks the steps that pydantic adds to a location for the branch of a union it took
BRANCH: Final = "\0"


def tag(name: str) -> Tag:
    return Tag(BRANCH + name)


def one_or_list(value: Any) -> str:
    """Tell a list from a single value, for unions of both."""
    return f"{BRANCH}list" if isinstance(value, list | tuple) else f"{BRANCH}one"


def text_or(model: type[BaseModel]) -> Callable[[Any], str | None]:
    """Return what tells a text from an object of a model, for unions of both: branches `text` and `object`."""

    def kind(value: Any) -> str | None:
        if isinstance(value, str):
            return f"{BRANCH}text"
        return f"{BRANCH}object" if isinstance(value, dict | model) else None

    return kind


def shortened(text: str, most: int) -> str:
    """Return a text cut to so many characters, with a mark where something is missing."""
    return text if len(text) <= most else f"{text[:most]}…"


_KINDS: Final = {
    kind: BRANCH + name
    for kind, name in (
        (str, "str"),
        (bool, "bool"),
        (int, "int"),
        (float, "float"),
        (tuple, "list"),
        (list, "list"),
    )
}


def _kind(value: Any) -> str | None:
    return _KINDS.get(type(value))


_Str = Annotated[StrictStr, tag("str")]
_Bool = Annotated[StrictBool, tag("bool")]
_Int = Annotated[StrictInt, tag("int")]
_Float = Annotated[Number, tag("float")]
_MISFIT: Final = {
    "custom_error_type": "scalar",
    "custom_error_message": "expected text, a number, a boolean, or a list of them",
}

Scalar: TypeAlias = Annotated[_Str | _Bool | _Int | _Float, Discriminator(_kind, **_MISFIT)]
Batch: TypeAlias = Annotated[tuple[Scalar | None, ...], Field(min_length=1, fail_fast=True)]
Data: TypeAlias = Annotated[
    _Str | _Bool | _Int | _Float | Annotated[Batch, tag("list")], Discriminator(_kind, **_MISFIT)
]
Texts: TypeAlias = Annotated[
    _Str | Annotated[tuple[StrictStr, ...], Field(min_length=1, fail_fast=True), tag("list")],
    Discriminator(_kind, custom_error_type="texts", custom_error_message="expected text, or a list of texts"),
]

Scores: TypeAlias = Annotated[
    _Int | _Float | Annotated[tuple[Number | None, ...], Field(min_length=1, fail_fast=True), tag("list")],
    Discriminator(
        _kind, custom_error_type="scores", custom_error_message="expected a number, or a list of numbers"
    ),
]


def _supported(version: int) -> int:
    if version != SCHEMA_VERSION:
        raise PydanticCustomError(
            "unsupported_schema_version",
            "schema version {found} is not supported; this worker reads version {supported}",
            {"found": version, "supported": SCHEMA_VERSION},
        )
    return version


SchemaVersion: TypeAlias = Annotated[StrictInt, AfterValidator(_supported)]


def escape(name: str) -> str:
    """Escape one step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
