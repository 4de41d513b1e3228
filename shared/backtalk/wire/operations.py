"""Steps of a program that no model takes: what was done is known, so gradients pass through them without a call."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt, StrictStr

from backtalk.wire.base import Frozen, Identifier, absent
from backtalk.wire.position import Position

One = Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=1)]
Two = Annotated[tuple[Identifier, ...], Field(min_length=2, max_length=2)]
Some = Annotated[tuple[Identifier, ...], Field(min_length=1)]


class Plain(Frozen):
    """Reads its `inputs`, writes its `outputs`; of a batch item by item, each from the same item of its inputs."""

    injected: ClassVar[None] = None

    id: Identifier
    inputs: Some
    outputs: Some

    def positions(self) -> tuple[Position, ...]:
        """Return every read, in order: `inputs/0`, `inputs/1`."""
        return tuple(Position(f"inputs/{at}", None, id) for at, id in enumerate(self.inputs))

    def part_refs(self) -> tuple[str, ...]:
        return ()


class Add(Plain):
    """Two texts one behind the other, or the sum of two numbers."""

    op: Literal["add"] = "add"
    inputs: Two
    outputs: One


class Sum(Plain):
    """Any number of texts together, or the sum of numbers."""

    op: Literal["sum"] = "sum"
    outputs: One


class Split(Plain):
    """The parts of a text between separators (None: white space), one output each."""

    op: Literal["split"] = "split"
    inputs: One
    sep: StrictStr | None = Field(default=None, exclude_if=absent)
    maxsplit: StrictInt = Field(default=-1, exclude_if=lambda number: number == -1)


class Edit(Plain):
    """A text that the program put in the place of another, e.g. the value it read out of a model's reply."""

    op: Literal["edit"] = "edit"
    inputs: One
    outputs: One
