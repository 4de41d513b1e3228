"""A batch taken apart into jobs and put together again, so that every id still names one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from backtalk.autodiff.jobs import Draft
from backtalk.autodiff.steps import new_id
from backtalk.wire.graph import Graph
from backtalk.wire.graph import Variable as Value
from backtalk.wire.jobs import CompletionResult
from backtalk.wire.operations import Concat, Slice


@dataclass(frozen=True, slots=True)
class Part:
    """The items that one job does, `length` of them from `start` on; None: a scalar. `slices` are its lists, by their ids."""

    start: int = 0
    length: int | None = None
    slices: Mapping[str, Value] = field(default_factory=dict)

    def items(self, whole: Sequence[Any]) -> Sequence[Any]:
        """Return the items of a list that belong to it."""
        return whole if self.length is None else whole[self.start : self.start + self.length]

    def value(self, whole: Value) -> Value:
        """Return what a value is in it."""
        return self.slices.get(whole.id, whole)


@dataclass(frozen=True, slots=True)
class Batch:
    """The parts of a call, and the fragment that says how its lists were taken apart."""

    parts: tuple[Part, ...]
    graph: Graph

    @classmethod
    def of(cls, draft: Draft, items_per_job: int) -> Self:
        """Return the parts of a call, one job each; a call that fits into one job is left whole."""
        if draft.length is None or draft.length <= items_per_job:
            return cls((Part(0, draft.length),), Graph())
        ranges = [
            (start, min(items_per_job, draft.length - start))
            for start in range(0, draft.length, items_per_job)
        ]
        cuts = {whole.id: list(_cuts(whole, ranges)) for whole in draft.lists}
        parts = tuple(
            Part(start, length, {id: cut[at][1] for id, cut in cuts.items()})
            for at, (start, length) in enumerate(ranges)
        )
        graph = Graph(
            variables=(*draft.lists, *(value for cut in cuts.values() for _, value in cut)),
            operations=tuple(operation for cut in cuts.values() for operation, _ in cut),
        )
        return cls(parts, graph)


def _cuts(value: Value, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[Slice, Value]]:
    assert isinstance(value.data, tuple)
    for start, length in ranges:
        id, output = new_id(), new_id()
        yield (
            Slice(id=id, inputs=(value.id,), outputs=(output,), start=start, stop=start + length),
            Value(
                id=output,
                data=value.data[start : start + length],
                role=value.role,
                requires_grad=value.requires_grad,
                producer=id,
            ),
        )


def joined(batch: Batch, results: Sequence[CompletionResult]) -> tuple[Graph, str]:
    """Return the graph of a whole call and the id of its answer. A job that failed leaves items that failed."""
    graphs = [result.graph for result in results if result.graph is not None]
    if len(results) == 1:
        assert results[0].output is not None
        return graphs[0], results[0].output
    role = _outputs(results)[0].role
    outputs = [
        _output(result) or Value(id=new_id(), data=(None,) * (part.length or 1), role=role)
        for part, result in zip(batch.parts, results, strict=True)
    ]
    concat = Concat(
        id=new_id(),
        inputs=tuple(output.id for output in outputs),
        lengths=tuple(part.length for part in batch.parts),
        outputs=(new_id(),),
    )
    whole = Value(
        id=concat.outputs[0],
        data=tuple(item for output in outputs for item in _items(output)),
        role=role,
        requires_grad=any(output.requires_grad for output in outputs),
        producer=concat.id,
    )
    last = Graph(variables=(*outputs, whole), operations=(concat,))
    return Graph.join(batch.graph, *graphs, last), whole.id


def _outputs(results: Sequence[CompletionResult]) -> list[Value]:
    return [output for output in map(_output, results) if output is not None]


def _output(result: CompletionResult) -> Value | None:
    if result.graph is None or result.output is None:
        return None
    return result.graph.index.variables[result.output]


def _items(output: Value) -> Sequence[Any]:
    assert isinstance(output.data, tuple)
    return output.data
