"""What was recorded as users of tensors know it: nodes, whose edges lead from an operation to what it read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backtalk.autodiff.steps import Step, leading_to
from backtalk.wire.graph import Operation
from backtalk.wire.graph import Variable as Value


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """An operation, or where the gradients of a leaf collect. Equal nodes are one operation."""

    operation: Operation | None
    leaf: Value | None
    steps: tuple[Step, ...] = ()

    def name(self) -> str:
        """Return e.g. `AddBackward`, or `AccumulateGrad` on a leaf.

        >>> from backtalk import Variable
        >>> (Variable("a", requires_grad=True) + Variable("b")).grad_fn.name()
        'AddBackward'
        """
        if self.operation is None:
            return "AccumulateGrad"
        return "".join(part.capitalize() for part in self.operation.op.split("_")) + "Backward"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The ids of what the operation wrote, in order."""
        return self.operation.outputs if self.operation else ()

    @property
    def variable(self) -> Value | None:
        """The leaf whose gradients collect here."""
        return self.leaf

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """One edge for each input, in their order: the node it comes from and which of its outputs it is.

        The node is None for inputs that require no gradient.
        """
        if self.operation is None:
            return ()
        graphs = {id(step): step.graph for step in self.steps}
        values = {value.id: value for graph in graphs.values() for value in graph.variables}
        return tuple(self._edge(values[position.variable]) for position in self.operation.positions())

    def _edge(self, value: Value) -> tuple[Node | None, int]:
        if not value.requires_grad:
            return None, 0
        writer = _writer(value, self.steps)
        if writer is None:
            return Node(None, value), 0
        return Node(writer, None, self.steps), writer.outputs.index(value.id)

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> str:
        return self.operation.id if self.operation else self.leaf.id if self.leaf else ""


def node_of(value: Value, step: Step | None) -> Node | None:
    """Return the node that wrote a value, None for a leaf."""
    if step is None:
        return None
    steps = tuple(leading_to([step]))
    writer = _writer(value, steps)
    return Node(writer, None, steps) if writer else None


def _writer(value: Value, steps: Iterable[Step]) -> Operation | None:
    if value.producer is None:
        return None
    for step in steps:
        at = step.graph.index.operations.get(value.producer)
        if at is not None:
            return step.graph.operations[at]
    return None
