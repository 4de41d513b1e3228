"""What was recorded as users of tensors know it: nodes, whose edges lead from an operation to what it read."""

from __future__ import annotations

from dataclasses import dataclass

from backtalk.autodiff.steps import Step, leading_to
from backtalk.wire.graph import Operation
from backtalk.wire.graph import Variable as Value


class Ancestry:
    """What leads to a Variable, looked up by id; shared by all nodes that are found from it."""

    def __init__(self, step: Step) -> None:
        steps = leading_to([step])
        self.values = {value.id: value for one in steps for value in one.graph.variables}
        self.operations = {operation.id: operation for one in steps for operation in one.graph.operations}

    def writer(self, value: Value) -> Operation | None:
        """Return the operation that wrote a value, None for a leaf."""
        return self.operations.get(value.producer or "")


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """An operation, or where the gradients of a leaf collect. Equal nodes are one operation."""

    operation: Operation | None
    leaf: Value | None
    ancestry: Ancestry

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
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """One edge for each input, in their order: the node it comes from and which of its outputs it is.

        The node is None for inputs that require no gradient.
        """
        if self.operation is None:
            return ()
        values = self.ancestry.values
        return tuple(self._edge(values[position.variable]) for position in self.operation.positions())

    def _edge(self, value: Value) -> tuple[Node | None, int]:
        if not value.requires_grad:
            return None, 0
        writer = self.ancestry.writer(value)
        if writer is None:
            return Node(None, value, self.ancestry), 0
        return Node(writer, None, self.ancestry), writer.outputs.index(value.id)

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
    ancestry = Ancestry(step)
    writer = ancestry.writer(value)
    return Node(writer, None, ancestry) if writer else None
