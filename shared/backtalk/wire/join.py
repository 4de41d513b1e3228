"""Composition of graph fragments: a stable topological merge that never guesses."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from backtalk.wire.errors import Code, Refused
from backtalk.wire.findings import refusal
from backtalk.wire.graph import Graph, Operation, Variable

_Entry = TypeVar("_Entry", Variable, Operation, dict[str, Any])


def join(fragments: Sequence[Graph]) -> Graph:
    """Return one graph of all fragments; ties in the order of operations go by argument order."""
    variables = _merge(((v.id, v) for graph in fragments for v in graph.variables), "variable", _comparable)
    operations = _merge(((o.id, o) for graph in fragments for o in graph.operations), "operation", _dump)
    parts = _merge((item for graph in fragments for item in graph.parts.items()), "part", lambda part: part)
    _check_writers(operations.values())
    ordered = _in_order(tuple(operations.values()))
    try:
        return Graph(variables=tuple(variables.values()), operations=ordered, parts=parts)
    except ValidationError as error:
        told = refusal(error)
        raise Refused(
            Code.GRAPH_CONFLICT, f"graph: the fragments do not fit together: {told}", **told.error.details
        ) from error


def _merge(entries: Iterable[tuple[str, _Entry]], kind: str, comparable: Any) -> dict[str, _Entry]:
    merged: dict[str, _Entry] = {}
    for id, entry in entries:
        known = merged.setdefault(id, entry)
        if known is not entry and not same_json(comparable(known), comparable(entry)):
            raise Refused(
                Code.GRAPH_CONFLICT,
                f"graph: {kind} {id!r} stands in two fragments with different content; "
                "an id names one value for ever, so give the changed one a new id",
                id=id,
                values=[_dump(known), _dump(entry)],
            )
    return merged


def _dump(entry: Variable | Operation | dict[str, Any]) -> Any:
    return entry if isinstance(entry, dict) else entry.model_dump(mode="json")


def _comparable(variable: Variable) -> Any:
    # what a written variable states of requires_grad is derived, not believed, so it cannot conflict
    return variable.model_dump(mode="json", exclude={"requires_grad"} if variable.producer else None)


def same_json(left: Any, right: Any) -> bool:
    """Compare as JSON does: 1 equals 1.0, true does not equal 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _check_writers(operations: Iterable[Operation]) -> None:
    writers: dict[str, str] = {}
    for operation in operations:
        for output in operation.outputs:
            if writers.setdefault(output, operation.id) != operation.id:
                raise Refused(
                    Code.GRAPH_CONFLICT,
                    f"graph: variable {output!r} is written by two operations; use a new id for one",
                    id=output,
                    values=[writers[output], operation.id],
                )


def _in_order(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Order operations after all they read from, earliest argument first (Kahn's algorithm on a heap)."""
    writer = {output: at for at, operation in enumerate(operations) for output in operation.outputs}
    needs = [{writer[id] for id in _reads(operation) if id in writer} for operation in operations]
    feeds: list[list[int]] = [[] for _ in operations]
    for at, sources in enumerate(needs):
        for source in sources:
            feeds[source].append(at)
    waiting = [len(sources) for sources in needs]
    ready = [at for at, count in enumerate(waiting) if count == 0]
    ordered = []
    while ready:
        at = heapq.heappop(ready)
        ordered.append(operations[at])
        for after in feeds[at]:
            waiting[after] -= 1
            if waiting[after] == 0:
                heapq.heappush(ready, after)
    if len(ordered) < len(operations):
        cycle = [operations[at].id for at, count in enumerate(waiting) if count]
        raise Refused(
            Code.GRAPH_CONFLICT,
            f"graph: joined, these operations form a cycle: {cycle}; leave one of them out",
            values=cycle,
        )
    return tuple(ordered)


def _reads(operation: Operation) -> Iterator[str]:
    yield from (position.variable for position in operation.positions())
    yield from operation.beside
