"""Steps of a program that no model takes: what was done is known, so gradients pass through them without a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt, StrictStr

from backtalk.wire.base import Data, Frozen, Identifier, absent
from backtalk.wire.position import Position, agreed

One = Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=1, fail_fast=True)]
Two = Annotated[tuple[Identifier, ...], Field(min_length=2, max_length=2, fail_fast=True)]
Some = Annotated[tuple[Identifier, ...], Field(min_length=1, fail_fast=True)]


class Plain(Frozen):
    """Reads its `inputs`, writes its `outputs`; of a batch item by item, each from the same item of its inputs."""

    injected: ClassVar[None] = None

    id: Identifier
    inputs: Some
    outputs: Some

    def positions(self) -> tuple[Position, ...]:
        """Return every read, in order: `inputs/0`, `inputs/1`."""
        return tuple(Position(f"inputs/{at}", None, id) for at, id in enumerate(self.inputs))

    @property
    def beside(self) -> tuple[str, ...]:
        """The ids that are read and that no gradient passes to."""
        return ()

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


class Sampled(Plain):
    """Says itself how many samples it has, because of what it keeps for each, or because it takes batches apart."""

    def batch(self, lengths: Mapping[str, int]) -> int | None:
        """Return how many samples there are, None for a scalar, from the lengths of the batches.

        Raises ValueError where they do not fit.
        """
        raise NotImplementedError

    def agreed(self, lengths: Mapping[str, int]) -> int | None:
        """Return the one length of all inputs that are batches. Raises ValueError where they differ."""
        read = {f"inputs/{at}": lengths[id] for at, id in enumerate(self.inputs) if id in lengths}
        return agreed("inputs", read)

    def written(self, batch: int | None) -> Mapping[str, int | None]:
        """Return how many items each output has, None for a scalar."""
        return dict.fromkeys(self.outputs, batch)

    def check(self, data: Sequence[Data]) -> None:
        """Raise ValueError where the values of the outputs are not of the kind that it writes."""


class Regrouping(Sampled):
    """Takes batches apart or puts them together: an item is read by a sample of another number."""


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
    lengths: Annotated[
        tuple[Annotated[StrictInt, Field(ge=1)] | None, ...], Field(min_length=1, fail_fast=True)
    ]

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


class Function(Sampled):
    """A function of the program's, of which only its words are known: name, description, names of parameters.

    Of an item that it failed with, `errors` and the output hold the error's text. `transmit` says whether a gradient
    passes as it is, or by a question to the backward model.
    """

    op: Literal["function"] = "function"
    outputs: One
    name: StrictStr
    description: StrictStr
    parameters: Annotated[tuple[StrictStr, ...], Field(fail_fast=True)]
    transmit: Literal["verbatim", "model"]
    errors: Annotated[tuple[StrictStr | None, ...], Field(fail_fast=True)] | None = Field(
        default=None, exclude_if=absent
    )

    def batch(self, lengths: Mapping[str, int]) -> int | None:
        if len(self.parameters) != len(self.inputs):
            raise ValueError(
                f"parameters: has {len(self.parameters)} names; give one for each of the {len(self.inputs)} inputs"
            )
        batch = self.agreed(lengths)
        if self.errors is not None and len(self.errors) != (batch or 1):
            raise ValueError(
                f"errors: has {len(self.errors)} entries; give one for each sample, which makes {batch or 1}"
            )
        return batch

    def error(self, sample: int | None) -> str | None:
        """Return what the function failed with for a sample."""
        return None if self.errors is None else self.errors[sample or 0]
