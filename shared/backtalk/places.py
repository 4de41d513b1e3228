"""The order of a tape, for everything that an answer lists: where an operation stands, and where it reads something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backtalk.wire.feedback import Call, Failure
from backtalk.wire.graph import Graph

_NOWHERE: Final = 1 << 62


class Places:
    """Tells places on a graph's tape apart; what is about no operation comes first, what the graph does not hold last."""

    def __init__(self, graph: Graph) -> None:
        self._index = graph.index
        self._variables = {id: at for at, id in enumerate(graph.index.variables)}
        self._known: dict[str, Mapping[str, int]] = {}

    def of(self, operation: str | None, read: str | None) -> tuple[int, int]:
        """Return the place at which an operation reads: by the path of a position, or by a variable, which is read first."""
        if operation is None:
            return (-1, 0)
        at = self._index.operations.get(operation, _NOWHERE)
        if at == _NOWHERE:
            return (at, 0)
        if operation not in self._known:
            positions = list(enumerate(self._index.positions[at]))
            self._known[operation] = {
                name: number
                for number, position in reversed(positions)
                for name in (position.path, position.variable)
            }
        return (at, self._known[operation].get(read or "", _NOWHERE))

    def of_variable(self, id: str) -> int:
        """Return the place of a variable in the graph."""
        return self._variables.get(id, _NOWHERE)


def call_order(call: Call, places: Places) -> tuple[Any, ...]:
    """Return what calls are sorted by; those about a variable as a whole come last."""
    first = call.inputs[0] if call.inputs else None
    place = (_NOWHERE, 0) if call.operation is None else places.of(call.operation, first)
    return (place, call.purpose, call.inputs, _number(call.sample), _number(call.part), str(call.usage))


def failure_order(failure: Failure, places: Places) -> tuple[Any, ...]:
    """Return what failures are sorted by; those about a variable as a whole come last."""
    whole = failure.operation is None
    place = (_NOWHERE, 0) if whole else places.of(failure.operation, failure.variable)
    return (place, places.of_variable(failure.variable), _number(failure.sample))


def _number(number: int | None) -> int:
    return -1 if number is None else number
