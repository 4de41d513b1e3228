"""What a program did, step by step, held by what it computed: the graph of a Variable is what leads to it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backtalk.wire.graph import Graph
from backtalk.wire.graph import Variable as Value

if TYPE_CHECKING:
    from backtalk.autodiff.variable import Variable

_COUNT: Final = itertools.count()


def new_id() -> str:
    """Return an id for a value or an operation of this program."""
    return uuid.uuid4().hex


def next_number() -> int:
    """Return the place in the order of submission: taken when an operation begins, not when it is done."""
    return next(_COUNT)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Read:
    """A handle, the value it had when it was read, and the step that wrote that value."""

    handle: Variable
    value: Value
    step: Step | None


@dataclass(eq=False, repr=False, slots=True)
class Step:
    """One recorded call: its fragment of the tape, and what it read. `spent` once a backward pass went through."""

    number: int
    graph: Graph
    reads: tuple[Read, ...]
    spent: bool = field(default=False)


def leading_to(steps: Iterable[Step | None]) -> list[Step]:
    """Return these steps and all that lead to them, in the order in which they were begun."""
    found: dict[int, Step] = {}
    waiting = [step for step in steps if step is not None]
    while waiting:
        step = waiting.pop()
        if id(step) not in found:
            found[id(step)] = step
            waiting.extend(one.step for one in step.reads if one.step is not None)
    return sorted(found.values(), key=lambda step: step.number)


def graph_of(steps: Sequence[Step], values: Iterable[Value] = ()) -> Graph:
    """Return the one graph of these steps; `values` are in it even if no step reads them."""
    alone = Graph(variables=tuple({value.id: value for value in values if value.producer is None}.values()))
    return Graph.join(*(step.graph for step in steps), alone)


def reads_of(steps: Iterable[Step]) -> Iterator[Read]:
    """Yield all that these steps read, in their order."""
    return (one for step in steps for one in step.reads)
