"""What the backward worker is asked and what it answers."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, JsonValue, StrictBool, StrictStr, field_validator

from backtalk.wire.answer import Answer
from backtalk.wire.base import Frozen, Identifier, Lenient, Number, Texts, absent, empty, one_or_list, tag
from backtalk.wire.errors import Error
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import Options

# what the backward worker itself decides of every call it makes
RESERVED_ARGUMENTS = frozenset({"messages", "model", "n", "stream", "stream_options", "tools", "tool_choice"})


class FeedbackItem(Frozen):
    """A criticism of one variable; `text` is a list, one per sample, for a batch that wants it.

    Null leaves the words to the evaluation that wrote the variable: it explains itself.
    """

    variable: Identifier
    text: Texts | None
    id: Identifier | None = Field(default=None, exclude_if=absent)
    score: Number | None = Field(default=None, exclude_if=absent)
    source: str | None = Field(default=None, exclude_if=absent)


class Feedback(Frozen):
    """A graph, or fragments of one, with criticism of some of its variables."""

    graph: Annotated[
        Annotated[Graph, tag("one")] | Annotated[tuple[Graph, ...], Field(min_length=1), tag("list")],
        Discriminator(one_or_list),
    ]
    feedback: Annotated[tuple[FeedbackItem, ...], Field(fail_fast=True)] = Field(min_length=1)
    wrt: Annotated[tuple[Identifier, ...], Field(fail_fast=True)] | None = None
    model: StrictStr | None = Field(default=None, min_length=1, exclude_if=absent)
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    backtalk: Options = Options()

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The fragments, one or several."""
        return self.graph if isinstance(self.graph, tuple) else (self.graph,)

    @field_validator("arguments")
    @classmethod
    def _free(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(RESERVED_ARGUMENTS & arguments.keys()):
            raise ValueError(
                f"{', '.join(taken)} cannot be set here: the backward worker decides it; leave it out"
            )
        return arguments


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
    operation: str
    sample: int | None
    error: Error


class Gradients(Answer):
    """The answer to feedback: for every wanted variable the ordered list of its gradients."""

    gradients: dict[str, tuple[Entry, ...]] = Field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def texts(self, variable: str) -> tuple[str, ...]:
        """Return the texts of all gradients of one variable, in order, the empty ones left out."""
        return tuple(entry.text for entry in self.gradients[variable] if entry.text)
