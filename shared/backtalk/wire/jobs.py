"""What the forward worker is asked and what it answers. Any OpenAI chat-completions body is a valid job."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from backtalk.wire.answer import Answer
from backtalk.wire.base import SCHEMA_VERSION, Frozen, SchemaVersion, absent, empty
from backtalk.wire.choice import Choice, ToolTemplates, check_tools, choice_of
from backtalk.wire.graph import Graph
from backtalk.wire.limits import CONTRACT
from backtalk.wire.messages import Input, InputName, Message
from backtalk.wire.tools import Tool, ToolMode

DEFAULT_ENDPOINT: Final = "openai"
MAX_CHOICES: Final = CONTRACT.choices
MAX_TOOL_RETRIES: Final = 10


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
    tool_mode: ToolMode | None = Field(default=None, exclude_if=absent)
    tool_retries: Annotated[StrictInt, Field(ge=0, le=MAX_TOOL_RETRIES, exclude_if=empty)] = 0


class CompletionJob(BaseModel):
    """A chat-completions request with Variables, placeholders and batches on top.

    Every field that is not named here goes to the endpoint untouched.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    model: StrictStr = Field(min_length=1)
    messages: Annotated[tuple[Message, ...], Field(fail_fast=True)] = Field(min_length=1)
    inputs: dict[InputName, Input] = Field(default_factory=dict)
    tools: Annotated[tuple[Tool, ...], Field(fail_fast=True)] | None = Field(default=None, exclude_if=absent)
    tool_choice: JsonValue = Field(default=None, exclude_if=absent)
    tool_templates: ToolTemplates | None = Field(default=None, exclude_if=absent)
    n: Annotated[StrictInt, Field(ge=1, le=MAX_CHOICES)] | None = Field(default=None, exclude_if=absent)
    stream: StrictBool | None = Field(default=None, exclude_if=absent)
    backtalk: JobOptions = JobOptions()

    @model_validator(mode="after")
    def _tools_fit_together(self) -> CompletionJob:
        check_tools(self.tools or ())
        _ = self.choice
        if self.backtalk.tool_mode == "native" and self.tool_templates is not None:
            raise ValueError(
                "tool_templates: nothing is injected in native mode; leave them out, or say tool_mode inject"
            )
        if self.backtalk.tool_retries and (self.stream or self.backtalk.tool_mode == "native"):
            reason = (
                "what was streamed cannot be asked for again" if self.stream else "native calls are not read"
            )
            raise ValueError(f"backtalk/tool_retries: {reason}; leave it out")
        return self

    @property
    def choice(self) -> Choice:
        """What `tool_choice` asks of the model."""
        return choice_of(self.tools or (), self.tool_choice)

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
    graph_omitted: bool = Field(default=False, exclude_if=empty)

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

    @property
    def message(self) -> dict[str, Any]:
        """The first choice as a message of the next job; where it was recorded, its content is the output Variable.

        So the graphs of both jobs join. The calls beside it are sent once, although the Variable holds them as well.
        Raises ValueError where nothing was said, and for a batch: each item would need a Variable of its own.
        """
        choices = self.completions[0].get("choices") if len(self.completions) == 1 else None
        if not choices:
            raise ValueError("message: the result of a batch, or of a failed job, is no single message")
        said = choices[0]["message"]
        calls = {"tool_calls": said["tool_calls"]} if said.get("tool_calls") else {}
        return {"role": "assistant", "content": self._content(said), **calls}

    def _content(self, said: dict[str, Any]) -> Any:
        if self.graph is None or self.output is None:
            return said.get("content")
        output = self.graph.index.variables[self.output]
        if isinstance(output.data, tuple):
            raise ValueError("message: the result of a batch is no single message")
        return [output.model_dump(mode="json")]


def _first_text(completion: dict[str, Any]) -> str | None:
    choices = completion.get("choices") or [{}]
    text = choices[0].get("message", {}).get("content")
    return text if isinstance(text, str) else None
