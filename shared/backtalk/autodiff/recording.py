"""How an operation gets onto the tape: what it reads is taken when it begins, what it wrote comes when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from backtalk.autodiff.mode import is_grad_enabled
from backtalk.autodiff.steps import Read, Step, new_id, next_number
from backtalk.autodiff.values import items_of, shape, value_of
from backtalk.autodiff.variable import Variable
from backtalk.wire.graph import Graph
from backtalk.wire.graph import Variable as Value
from backtalk.wire.operations import Plain


@dataclass(frozen=True, eq=False, slots=True)
class Begun:
    """An operation that has begun: its place in the order of submission, what it reads, and whether that is kept.

    Recorded is what reads something that wants a gradient, while recording is on.
    """

    number: int
    reads: tuple[Read, ...]
    recorded: bool

    @classmethod
    def reading(cls, handles: Iterable[Variable]) -> Self:
        """Return an operation that reads these Variables as they are now."""
        return cls.of(tuple(handle.read() for handle in handles))

    @classmethod
    def of(cls, reads: tuple[Read, ...]) -> Self:
        """Return an operation of what was read."""
        wanted = any(read.value.requires_grad for read in reads)
        return cls(next_number(), reads, is_grad_enabled() and wanted)

    def each(self, compute: Callable[..., Any], *, broadcast: bool = False) -> Any:
        """Compute something of scalars, or of batches item by item; a failed item stays failed.

        Raises ValueError where shapes differ; with `broadcast` a scalar serves every item.
        """
        data = [read.value.data for read in self.reads]
        lengths = {items_of(one) for one in data} - ({None} if broadcast else set())
        if len(lengths) > 1:
            told = ", ".join(map(shape, data))
            raise ValueError(f"shapes differ: {told}; give only scalars, or only lists of one length")
        length = next(iter(lengths), None)
        if length is None:
            return compute(*data)
        columns = [one if isinstance(one, tuple) else (one,) * length for one in data]
        return [None if None in items else compute(*items) for items in zip(*columns, strict=True)]

    def wrote(
        self,
        kind: type[Plain],
        data: Sequence[Any],
        roles: Sequence[str],
        *,
        mixed: bool = False,
        **fields: Any,
    ) -> tuple[Variable, ...]:
        """Return the outputs of an operation that is done; `mixed` lists may hold texts beside numbers."""
        id = new_id()
        written = tuple(
            Value(id=new_id(), data=value_of(one, mixed=mixed), role=role, requires_grad=True, producer=id)
            for one, role in zip(data, roles, strict=True)
        )
        step = None
        if self.recorded:
            inputs = tuple(read.value.id for read in self.reads)
            outputs = tuple(value.id for value in written)
            operation: Any = kind(id=id, inputs=inputs, outputs=outputs, **fields)
            read = {read.value.id: read.value for read in self.reads}
            graph = Graph(variables=(*read.values(), *written), operations=(operation,))
            step = self.kept(graph)
        return tuple(Variable.written(value, step) for value in written)

    def kept(self, graph: Graph) -> Step | None:
        """Return the step of an operation that recorded this graph; None where nothing is kept."""
        return Step(self.number, graph, self.reads) if self.recorded else None
