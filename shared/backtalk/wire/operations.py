"""Steps of a program that no model takes: what was done is known, so gradients pass through them without a call."""

from __future__ import annotations

from collections.abc import Mapping
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


class Regrouping(Plain):
    """Takes batches apart or puts them together: an item is read by a sample of another number."""

    def batch(self, lengths: Mapping[str, int]) -> int:
        """Return how many samples there are, from the lengths of the batches. Raises ValueError where they do not fit."""
        raise NotImplementedError


class Slice(Regrouping):
    """The items of a batch from `start` up to, and without, `stop`: a smaller batch."""

    op: Literal["slice"] = "slice"
    inputs: One
    outputs: One
    start: Annotated[StrictInt, Field(ge=0)]
    stop: Annotated[StrictInt, Field(ge=1)]

    def positions(self) -> tuple[Position, ...]:
        return (Position("inputs/0", None, self.inputs[0], 0, self.start, self.stop - self.start),)

    def batch(self, lengths: Mapping[str, int]) -> int:
        if not self.start < self.stop <= lengths.get(self.inputs[0], 0):
            raise ValueError(
                f"inputs/0: {self.inputs[0]!r} has {lengths.get(self.inputs[0], 'no')} items; "
                f"there is no slice of it from {self.start} to {self.stop}"
            )
        return self.stop - self.start


class Concat(Regrouping):
    """Batches, and single values, one behind the other: one batch. `lengths` is null for a single value."""

    op: Literal["concat"] = "concat"
    outputs: One
    lengths: Annotated[tuple[Annotated[StrictInt, Field(ge=1)] | None, ...], Field(min_length=1)]

    def positions(self) -> tuple[Position, ...]:
        first = 0
        found = []
        for at, (id, length) in enumerate(zip(self.inputs, self.lengths, strict=False)):
            found.append(Position(f"inputs/{at}", None, id, first, 0, length or 1))
            first += length or 1
        return tuple(found)

    def batch(self, lengths: Mapping[str, int]) -> int:
        found = [lengths.get(id) for id in self.inputs]
        if found != list(self.lengths):
            raise ValueError(
                f"lengths: the inputs have {found}, not {list(self.lengths)} (null: a single value)"
            )
        return sum(length or 1 for length in self.lengths)


class Edit(Plain):
    """A text that the program put in the place of another, e.g. the value it read out of a model's reply."""

    op: Literal["edit"] = "edit"
    inputs: One
    outputs: One
