"""The texts that a step read, sample by sample, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from backtalk.wire.position import Position
from backward_worker.gradient import TextGradient
from backward_worker.step import Step


@dataclass(frozen=True, slots=True)
class Text:
    """A variable of the call: where it stands, what it is for, whether it may change.

    `place` is what the model saw around it, where it stood inside the words about tools.
    """

    path: str
    role: str
    text: str
    changes: bool
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Reads:
    """What a step reads and what is wanted of it, looked up once for all samples: of a list of ids each reads its own.

    `asked` are the paths that are wanted of each sample, and under None of all together, in order.
    """

    all: Sequence[Position]
    own: Mapping[int | None, Sequence[int]]
    asked: Mapping[int | None, Collection[str]]

    @classmethod
    def of(cls, step: Step[TextGradient]) -> Self:
        """Return the reads of a step."""
        positions = step.graph.index.positions[step.graph.index.operations[step.operation.id]]
        own: dict[int | None, list[int]] = {}
        for at, position in enumerate(positions):
            own.setdefault(position.sample, []).append(at)
        asked: dict[int | None, dict[str, None]] = {}
        for target in step.targets:
            asked.setdefault(target.sample, {})[target.position.path] = None
        return cls(positions, own, asked)

    def wanted(self, sample: int | None) -> Collection[str]:
        """Return the paths whose gradients are wanted, of a sample or of all together."""
        return {*self.asked.get(None, ()), *self.asked.get(sample, ())}

    def of_sample(self, sample: int | None) -> Sequence[Position]:
        """Return what a sample reads, in the order of the operation."""
        mine = () if sample is None else self.own.get(sample, ())
        return [self.all[at] for at in sorted((*self.own.get(None, ()), *mine))]
