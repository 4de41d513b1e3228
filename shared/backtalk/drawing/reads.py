"""How operations read: lists of many variables as one stack, and what stands so far away that an arrow would not help."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

from backtalk.drawing.words import ranges
from backtalk.wire.graph import Graph
from backtalk.wire.position import Position

# a list of more variables than these is drawn as one node
_FEW: Final = 4
# an arrow over more operations than these becomes an echo: dot needs minutes for thousands of long arrows
_NEAR: Final = 6


@dataclass(frozen=True, slots=True)
class Stack:
    """A list of variables that operations read, one for each sample; the same list is one node."""

    name: str
    ids: tuple[str, ...]


NO_STACKS: Final[Mapping[str, Stack]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stacks:
    """All stacks, which of them each operation reads, by path, and the variables that are shown inside one only."""

    all: tuple[Stack, ...]
    reads: Mapping[int, Mapping[str, Stack]]
    folded: dict[str, str]

    def read_by(self, at: int) -> Mapping[str, Stack]:
        return self.reads.get(at, NO_STACKS)


def stacks_of(graph: Graph, spoken_of: Collection[str]) -> Stacks:
    """Return the stacks of a graph; variables that are `spoken_of` keep a node of their own."""
    found: dict[tuple[str, ...], Stack] = {}
    reads: dict[int, dict[str, Stack]] = {}
    for at, positions in enumerate(graph.index.positions):
        for path, ids in _lists(positions).items():
            stack = found.setdefault(ids, Stack(f"l{len(found)}", ids))
            reads.setdefault(at, {})[path] = stack
    return Stacks(tuple(found.values()), reads, _folded(graph, reads, spoken_of))


def _lists(positions: Iterable[Position]) -> dict[str, tuple[str, ...]]:
    lists: dict[str, list[str]] = {}
    for position in positions:
        if position.sample is not None:
            lists.setdefault(position.path, []).append(position.variable)
    return {path: tuple(ids) for path, ids in lists.items() if len(set(ids)) > _FEW}


def _folded(
    graph: Graph, reads: Mapping[int, Mapping[str, Stack]], spoken_of: Collection[str]
) -> dict[str, str]:
    """Return, by id, the stack that shows a variable: plain data which is read as a part of that list alone."""
    total = Counter(position.variable for positions in graph.index.positions for position in positions)
    total.update(id for at in range(len(graph.operations)) for id in beside(graph, at))
    within: dict[str, Counter[str]] = defaultdict(Counter)
    for stack in (stack for stacks in reads.values() for stack in stacks.values()):
        within[stack.name].update(stack.ids)
    plain = {one.id for one in graph.leaves() if not one.requires_grad} - set(spoken_of)
    return {
        id: name
        for name, counts in within.items()
        for id, count in counts.items()
        if id in plain and count == total[id]
    }


def beside(graph: Graph, at: int) -> tuple[str, ...]:
    """Return what an operation had at hand although no gradient passes to it, e.g. the targets of an evaluation."""
    ids: tuple[str, ...] = getattr(graph.operations[at], "beside", ())
    return tuple(id for id in ids if id in graph.index.variables)


def edge_labels(
    positions: Iterable[Position], stacks: Mapping[str, Stack] = NO_STACKS
) -> Iterator[tuple[str | Stack, tuple[str, ...]]]:
    """Yield each variable, or stack, that is read with the paths it is read by, in the order of the first of them."""
    found: dict[str | Stack, dict[str, list[int]]] = {}
    for position in positions:
        stack = stacks.get(position.path)
        samples = found.setdefault(stack or position.variable, {}).setdefault(position.path, [])
        if position.sample is not None and stack is None:
            samples.append(position.sample)
    for source, paths in found.items():
        yield source, tuple(_label(path, samples) for path, samples in paths.items())


def _label(path: str, samples: list[int]) -> str:
    return " ".join(filter(None, (path, f"[{ranges(samples)}]" if samples else "")))


class Far:
    """Tells whether a variable stands so many operations before its reader that an arrow would cross everything."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(self, variable: str, reader: int) -> bool:
        return self._depths[reader] - self._homes.get(variable, 0) > _NEAR

    @cached_property
    def _depths(self) -> list[int]:
        """How many operations stand one behind the other before each."""
        index = self._graph.index
        depths: list[int] = []
        for positions in index.positions:
            before = (index.writers.get(position.variable) for position in positions)
            depths.append(max((depths[at] + 1 for at in before if at is not None), default=0))
        return depths

    @cached_property
    def _homes(self) -> dict[str, int]:
        """The depth at which each variable is drawn: behind its writer, or before its first reader."""
        index = self._graph.index
        homes: dict[str, int] = {id: self._depths[at] + 1 for id, at in index.writers.items()}
        for at, positions in enumerate(index.positions):
            for position in positions:
                if position.variable not in index.writers:
                    known = homes.get(position.variable, self._depths[at])
                    homes[position.variable] = min(known, self._depths[at])
        return homes
