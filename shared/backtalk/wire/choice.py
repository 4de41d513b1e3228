"""What a job says about its tools: its own words for them, and which of them the model should call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, StrictStr

from backtalk.wire.base import Frozen, absent, tag, text_or
from backtalk.wire.messages import InlineVariable
from backtalk.wire.tools import Side, Tool

WordsText: TypeAlias = Annotated[
    Annotated[StrictStr, tag("text")] | Annotated[InlineVariable, tag("object")],
    Discriminator(
        text_or(InlineVariable),
        custom_error_type="words",
        custom_error_message="expected text or a Variable (an object with `data`)",
    ),
]


class Words(Frozen):
    """What stands around the tools: absent or null means the default words, an empty text none.

    `{{func_call_token}}` becomes the call token; everything else is taken literally.
    """

    prefix: WordsText | None = Field(default=None, exclude_if=absent)
    suffix: WordsText | None = Field(default=None, exclude_if=absent)


class ToolTemplates(Frozen):
    """The words of a request for its tools, after vLLM's proposal.

    `function_list` serves `auto` and `required`, `force_call` a named function.
    """

    function_list: Words | None = Field(default=None, exclude_if=absent)
    force_call: Words | None = Field(default=None, exclude_if=absent)
    position: Side | None = Field(default=None, exclude_if=absent)


@dataclass(frozen=True, slots=True)
class Choice:
    """What `tool_choice` means; `other` is a form of OpenAI that only an endpoint can serve."""

    kind: Literal["none", "auto", "required", "function", "other"]
    name: str | None = None


def choice_of(tools: Sequence[Tool], tool_choice: Any) -> Choice:
    """Return the meaning of `tool_choice`; the reserved words win over functions of their name.

    Raises ValueError where it names no function of the tools.
    """
    if tool_choice is None:
        return Choice("auto" if tools else "none")
    if tool_choice in ("none", "auto"):
        return Choice(tool_choice if tools else "none")
    if not tools:
        raise ValueError("tool_choice: there are no tools to choose from; add `tools`, or leave it out")
    if tool_choice == "required":
        return Choice("required")
    if isinstance(tool_choice, dict) and tool_choice.get("type") != "function":
        return Choice("other")
    name = tool_choice
    if isinstance(tool_choice, dict):
        function = tool_choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
    known = names_of(tools)
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"tool_choice: names no function of `tools`; known are {', '.join(known)}, "
            "and the words auto, none, required"
        )
    return Choice("function", name)


def names_of(tools: Sequence[Tool]) -> list[str]:
    """Return the names of the functions among the tools."""
    functions = (tool.get("function") for tool in tools if tool.get("type", "function") == "function")
    return [str(function["name"]) for function in functions if isinstance(function, dict)]


def check_tools(tools: Sequence[Tool]) -> None:
    """Raise ValueError where a function among the tools lacks what a call needs, or two have one name."""
    seen: set[str] = set()
    for at, tool in enumerate(tools):
        if tool.get("type", "function") != "function":
            continue
        path = f"tools/{at}/function"
        function = tool.get("function")
        if not isinstance(function, dict):
            raise ValueError(f"{path}: is missing; describe the function: name, description, parameters")
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path}/name: expected a text that is not empty")
        if name in seen:
            raise ValueError(f"{path}/name: {name!r} stands twice; give each function a name of its own")
        seen.add(name)
        if not isinstance(function.get("parameters"), dict | None):
            raise ValueError(f"{path}/parameters: expected a JSON Schema, an object")
