"""What is drawn of a graph: its nodes and edges by name, whoever draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from backtalk.drawing.reads import Far, Stack, Stacks, beside, edge_labels, stacks_of
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Graph, Operation, Variable
from backtalk.wire.position import Position

AllGradients: TypeAlias = Mapping[str, Sequence[Entry]]
NOTHING: Final[AllGradients] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between two nodes, by their names; `beside`: what was at hand but takes no gradient."""

    tail: str
    head: str
    labels: tuple[str, ...] = ()
    kind: Literal["read", "beside", "write"] = "read"


@dataclass(frozen=True, slots=True)
class Echo:
    """A variable that is drawn once more, beside an operation far behind the place where it stands."""

    name: str
    variable: Variable


@dataclass(frozen=True)
class Scene:
    """A graph with gradients, and the name of the node at which each variable and operation is drawn."""

    graph: Graph
    gradients: AllGradients

    @cached_property
    def stacks(self) -> Stacks:
        return stacks_of(self.graph, self.gradients)

    @cached_property
    def drawn(self) -> Mapping[str, Variable]:
        """The variables with a node of their own, by its name."""
        folded = self.stacks.folded
        return {f"v{at}": one for at, one in enumerate(self.graph.variables) if one.id not in folded}

    @cached_property
    def operations(self) -> Mapping[str, Operation]:
        """The operations in the order of the tape, by the name of the node."""
        return {f"o{at}": operation for at, operation in enumerate(self.graph.operations)}

    @cached_property
    def places(self) -> Mapping[str, str]:
        """The name of the node where a variable is drawn, by the variable's id."""
        return {one.id: name for name, one in self.drawn.items()} | self.stacks.folded

    @cached_property
    def _woven(self) -> tuple[tuple[Edge, ...], tuple[Echo, ...]]:
        weaver = _Weaver(self, Far(self.graph))
        edges = tuple(edge for at in range(len(self.graph.operations)) for edge in weaver.edges(at))
        return edges, tuple(weaver.echoes.values())

    @property
    def edges(self) -> Sequence[Edge]:
        """All arrows, in the order of the tape."""
        return self._woven[0]

    @property
    def echoes(self) -> Sequence[Echo]:
        return self._woven[1]

    @cached_property
    def readers(self) -> Mapping[str, Sequence[int]]:
        """The places on the tape of the operations that read a variable, by its id."""
        found: dict[str, dict[int, None]] = {}
        for at, positions in enumerate(self.graph.index.positions):
            for id in (*(position.variable for position in positions), *beside(self.graph, at)):
                found.setdefault(id, {})[at] = None
        return {id: tuple(places) for id, places in found.items()}

    def gradients_of(self, variable: Variable) -> Sequence[Entry]:
        return self.gradients.get(variable.id, ())

    def is_outside(self, variable: Variable) -> bool:
        """Tell whether an operation wrote a variable that is not in this graph, which is then a fragment."""
        return variable.producer is not None and variable.producer not in self.graph.index.operations


class _Weaver:
    """Draws the arrows of one operation after the other, and remembers which nodes that took."""

    def __init__(self, scene: Scene, far: Far) -> None:
        self.scene = scene
        self.far = far
        self.echoes: dict[tuple[str, str], Echo] = {}
        self.filled: set[str] = set()

    def edges(self, at: int) -> Iterator[Edge]:
        operation, name = self.scene.graph.operations[at], f"o{at}"
        stacks = self.scene.stacks.read_by(at)
        for source, labels in edge_labels(self.scene.graph.index.positions[at], stacks):
            if isinstance(source, Stack):
                yield from self._into(source, at)
            yield Edge(self._near(source, name, at), name, labels)
        for variable in beside(self.scene.graph, at):
            yield Edge(self._near(variable, name, at), name, ("beside",), "beside")
        for number, output in enumerate(operation.outputs):
            label = (f"outputs/{number}",) if len(operation.outputs) > 1 else ()
            yield Edge(name, self.scene.places[output], label, "write")

    def _into(self, stack: Stack, at: int) -> Iterator[Edge]:
        """Yield the arrows to a list from those of its variables that are drawn, the first time it is read."""
        if stack.name in self.filled:
            return
        self.filled.add(stack.name)
        apart = [
            Position("", sample, id)
            for sample, id in enumerate(stack.ids)
            if self.scene.places[id] != stack.name
        ]
        for source, labels in edge_labels(apart):
            yield Edge(self._near(source, stack.name, at), stack.name, labels)

    def _near(self, source: str | Stack, reader: str, at: int) -> str:
        """Return the node that a reader's arrow comes from: an echo, where the variable stands far away."""
        if isinstance(source, Stack):
            return source.name
        if not self.far(source, at):
            return self.scene.places[source]
        known = self.scene.graph.index.variables[source]
        return self.echoes.setdefault((source, reader), Echo(f"e{len(self.echoes)}", known)).name
