"""What a reply was read to say: its text, its calls, and what looked like a call and is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Reason: TypeAlias = Literal["not_json", "unknown_tool", "bad_arguments", "no_call"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function; `arguments` is a JSON object as text, as OpenAI has it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something that looks like a call is none, in a word and in a sentence for the model."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A call that could not be taken: its text, which stays in the content, and why."""

    text: str
    fault: Fault


Check: TypeAlias = Callable[[Any], Call | Fault]
Event: TypeAlias = str | Call


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a reply holds: the text outside of its calls (None where there is none), the calls, the problems."""

    content: str | None
    calls: tuple[Call, ...]
    problems: tuple[Problem, ...]
