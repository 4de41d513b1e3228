"""What the backward worker is asked and what it answers."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from backtalk.wire.answer import Answer
from backtalk.wire.base import Frozen, Identifier, Lenient, Scores, Texts, absent, empty, one_or_list, tag
from backtalk.wire.errors import Error
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import Options
from backtalk.wire.policy import Policy

# what the backward worker itself decides of every call it makes
RESERVED_ARGUMENTS = frozenset({"messages", "model", "n", "stream", "stream_options", "tools", "tool_choice"})


class FeedbackItem(Frozen):
    """A criticism of one variable; `text` is a list, one per sample, for a batch that wants it.

    Null leaves the words to the evaluation that wrote the variable: it explains itself. `score`, one or a list of one
    for each sample, is held against the policy's `gate`.
    """

    variable: Identifier
    text: Texts | None
    id: Identifier | None = Field(default=None, exclude_if=absent)
    score: Scores | None = Field(default=None, exclude_if=absent)
    source: str | None = Field(default=None, exclude_if=absent)


Place: TypeAlias = Annotated[StrictInt, Field(ge=0)]


class Feedback(Frozen):
    """A graph, or fragments of one, with criticism of some of its variables.

    `samples`, `[from, to)`, leaves the other items of the batches that are criticised to other messages.
    """

    graph: Annotated[
        Annotated[Graph, tag("one")] | Annotated[tuple[Graph, ...], Field(min_length=1), tag("list")],
        Discriminator(one_or_list),
    ]
    feedback: Annotated[tuple[FeedbackItem, ...], Field(fail_fast=True)] = Field(min_length=1)
    wrt: Annotated[tuple[Identifier, ...], Field(fail_fast=True)] | None = None
    model: StrictStr | None = Field(default=None, min_length=1, exclude_if=absent)
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    policy: Policy | None = Field(default=None, exclude_if=absent)
    samples: tuple[Place, Place] | None = Field(default=None, exclude_if=absent)
    backtalk: Options = Options()

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The fragments, one or several."""
        return self.graph if isinstance(self.graph, tuple) else (self.graph,)

    @cached_property
    def whole(self) -> Graph:
        """The fragments as one graph. Raises Refused with code `graph_conflict` where they contradict each other."""
        return self.graph if isinstance(self.graph, Graph) else Graph.join(*self.graph)

    @field_validator("arguments")
    @classmethod
    def _free(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(RESERVED_ARGUMENTS & arguments.keys()):
            raise ValueError(
                f"{', '.join(taken)} cannot be set here: the backward worker decides it; leave it out"
            )
        return arguments

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.samples is not None and self.samples[0] >= self.samples[1]:
            raise ValueError(
                f"samples: there is nothing in {list(self.samples)}; give [from, to), from below to"
            )
        return self


How: TypeAlias = Literal["model", "copied", "empty", "merged"]


class Entry(Lenient):
    """One gradient: what one operation (null: the feedback itself) says about one variable it read."""

    text: str
    role: str
    operation: str | None
    input: str | None
    sample: int | None
    feedback: tuple[str, ...]
    how: How
    incomplete: StrictBool = Field(default=False, exclude_if=empty)


class Failure(Lenient):
    """A gradient that could not be computed, and why; a failure is never text."""

    variable: str
    operation: str | None
    sample: int | None
    error: Error


class Summary(Lenient):
    """One text for all gradients of a variable; `entries` are those that went into it, by their places in the list.

    `cut` says that it was cut at the policy's `summary_characters`.
    """

    text: str
    role: str
    how: How
    entries: tuple[int, ...]
    feedback: tuple[str, ...]
    incomplete: StrictBool = Field(default=False, exclude_if=empty)
    cut: StrictBool = Field(default=False, exclude_if=empty)


Purpose: TypeAlias = Literal["ask", "merge", "summary"]


class Call(Lenient):
    """A call of the backward model that was paid, and what it used.

    `inputs` are the positions it asked about; for a `summary`, the variable. `part` counts the questions of a step that
    was too large for one.
    """

    purpose: Purpose
    operation: str | None
    inputs: tuple[str, ...]
    sample: int | None = Field(default=None, exclude_if=absent)
    part: int | None = Field(default=None, exclude_if=absent)
    usage: dict[str, Any]


class Gradients(Answer):
    """The answer to feedback: for every wanted variable the ordered list of its gradients.

    `usage` is the sum of what all `calls` used, and `usage_by_operation` of those that asked about an operation.
    """

    gradients: dict[str, tuple[Entry, ...]] = Field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    summaries: dict[str, Summary] = Field(default_factory=dict, exclude_if=empty)
    calls: tuple[Call, ...] = Field(default=(), exclude_if=empty)
    usage_by_operation: dict[str, dict[str, Any]] = Field(default_factory=dict, exclude_if=empty)

    def texts(self, variable: str) -> tuple[str, ...]:
        """Return the texts of all gradients of one variable, in order, the empty ones left out."""
        return tuple(entry.text for entry in self.gradients[variable] if entry.text)
