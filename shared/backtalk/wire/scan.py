"""The one linear scan that proves a tape consistent and remembers what it saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from backtalk.wire.operations import Sampled
from backtalk.wire.position import Position, agreed

if TYPE_CHECKING:
    from backtalk.wire.graph import Graph, Operation, Variable

T = TypeVar("T")
_Named = TypeVar("_Named", "Variable", "Operation")


@dataclass(frozen=True, slots=True)
class Index:
    """Lookups over a consistent graph; tuples are aligned with `Graph.operations`."""

    variables: dict[str, Variable]
    operations: dict[str, int]
    writers: dict[str, int]
    positions: tuple[tuple[Position, ...], ...]
    batches: tuple[int | None, ...]
    requires_grad: dict[str, bool]


def scan(graph: Graph) -> Index:
    """Return the index of a graph, or raise ValueError with the path of the first contradiction."""
    variables = _unique(graph.variables, "variables")
    operations = {id: at for at, id in enumerate(_unique(graph.operations, "operations"))}
    requires_grad = {variable.id: variable.requires_grad for variable in graph.variables}
    lists = {
        variable.id: len(variable.data) for variable in graph.variables if isinstance(variable.data, tuple)
    }
    writers: dict[str, int] = {}
    all_positions = []
    batches = []
    for at, operation in enumerate(graph.operations):
        positions = _of(at, operation.positions)
        wants = batched = False
        # one loop without calls: this is what a graph of 10,000 operations spends its time in
        for position in positions:
            variable = variables.get(position.variable)
            if variable is None or operations.get(variable.producer or "", -1) >= at:
                raise _bad_read(at, position, variable)
            wants = wants or requires_grad[variable.id]
            batched = batched or position.sample is not None or variable.id in lists
        _check_parts(at, operation, graph)
        if operation.injected is not None:
            _check_injected(at, operation, positions)
        if isinstance(operation, Sampled):
            _check_beside(at, operation, variables, operations)
            batch = _of(at, operation.batch, lists)
            lengths = operation.written(batch)
        else:
            batch = _batch(at, positions, lists) if batched else None
            lengths = None
        for output in operation.outputs:
            length = batch if lengths is None else lengths[output]
            _check_write(at, operation, output, length, variables, writers)
            writers[output] = at
            requires_grad[output] = wants
        if lengths is not None:
            assert isinstance(operation, Sampled)
            _of(at, operation.check, [variables[output].data for output in operation.outputs])
        all_positions.append(positions)
        batches.append(batch)
    _check_producers(graph.variables, operations, writers)
    return Index(variables, operations, writers, tuple(all_positions), tuple(batches), requires_grad)


def _unique(items: Iterable[_Named], kind: str) -> dict[str, _Named]:
    found: dict[str, _Named] = {}
    for at, item in enumerate(items):
        if item.id in found:
            raise ValueError(f"{kind}/{at}/id: {item.id!r} stands twice; give each value an id of its own")
        found[item.id] = item
    return found


def _bad_read(at: int, position: Position, variable: Variable | None) -> ValueError:
    place = f"operations/{at}/{position.path}"
    if variable is None:
        return ValueError(f"{place}: reads {position.variable!r}, which is not among the variables; add it")
    return ValueError(
        f"{place}: reads {variable.id!r}, which operation {variable.producer!r} writes only later; "
        "an operation should read only what stands before it (a cycle, or a wrong order)"
    )


def _check_beside(
    at: int, operation: Sampled, variables: dict[str, Variable], operations: dict[str, int]
) -> None:
    """Hold what is read without a gradient to the same as every other read."""
    for id in operation.beside:
        variable = variables.get(id)
        if variable is None or operations.get(variable.producer or "", -1) >= at:
            raise _bad_read(at, Position(f"inputs/{operation.inputs.index(id)}", None, id), variable)


def _check_parts(at: int, operation: Operation, graph: Graph) -> None:
    for part in operation.part_refs():
        if part not in graph.parts:
            raise ValueError(f"operations/{at}/messages: part {part!r} is not in the graph's parts; add it")


def _of(at: int, work: Callable[..., T], *given: Any) -> T:
    """Return what an operation says of itself; what contradicts itself is told by its place on the tape."""
    try:
        return work(*given)
    except ValueError as error:
        raise ValueError(f"operations/{at}/{error}") from error


def _check_injected(at: int, operation: Operation, positions: Iterable[Position]) -> None:
    """Refuse an injection that speaks of messages or variables which the operation does not have."""
    assert operation.injected is not None
    path = f"operations/{at}/injected"
    for rewriting in operation.injected.messages:
        if rewriting.message >= len(operation.messages):
            raise ValueError(f"{path}/messages: there is no message {rewriting.message}; leave it out")
    unread = operation.injected.shown.keys() - {position.variable for position in positions}
    if unread:
        raise ValueError(f"{path}/block: shows {min(unread)!r}, which is no text of the operation's tools")


def _batch(at: int, positions: Iterable[Position], lists: dict[str, int]) -> int | None:
    """Return how many samples an operation has, None for a scalar one; `lists` holds the length of every batch."""
    lengths: dict[str, int] = {}
    for path, sample, id, *_ in positions:
        if sample is not None:
            if id in lists:
                raise ValueError(f"operations/{at}/{path}: a list of ids may not name a batch; {id!r} is one")
            lengths[path] = sample + 1
        elif id in lists:
            lengths[path] = lists[id]
    return agreed(f"operations/{at}", lengths)


def _check_write(
    at: int,
    operation: Operation,
    output: str,
    expected: int | None,
    variables: dict[str, Variable],
    writers: dict[str, int],
) -> None:
    path = f"operations/{at}/outputs"
    variable = variables.get(output)
    if variable is None:
        raise ValueError(f"{path}: {output!r} is not among the variables; add it")
    if output in writers:
        raise ValueError(
            f"{path}: {output!r} is already written by operation {writers[output]}; use a new id"
        )
    if variable.producer != operation.id:
        raise ValueError(
            f"{path}: {output!r} names the producer {variable.producer!r}; it should be {operation.id!r}"
        )
    length = len(variable.data) if isinstance(variable.data, tuple) else None
    if length != expected:
        raise ValueError(
            f"{path}: {output!r} has {length or 'no'} items; what the operation writes there has {expected or 'none'}"
        )


def _check_producers(
    variables: Iterable[Variable], operations: dict[str, int], writers: dict[str, int]
) -> None:
    for at, variable in enumerate(variables):
        if variable.producer in operations and variable.id not in writers:
            raise ValueError(
                f"variables/{at}/producer: operation {variable.producer!r} does not write {variable.id!r}; "
                "add it to the operation's outputs or leave the producer out"
            )
