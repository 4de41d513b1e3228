"""The model that an operation ran on."""

from __future__ import annotations

from backtalk.wire.graph import ChatCompletion, Graph
from backward_worker.ask import Own


def own_model(graph: Graph, operation: str | None) -> Own | None:
    """Return the model of an operation, by its id; None where no model ran."""
    found = graph.operations[graph.index.operations[operation]] if operation is not None else None
    return Own(found.endpoint, found.model) if isinstance(found, ChatCompletion) else None
