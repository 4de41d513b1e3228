"""One gradient of what a batch shares, also where its items were done by several calls: the parts of one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from backtalk.prompt import as_text
from backtalk.wire.errors import Error
from backtalk.wire.graph import Graph
from backtalk.wire.operations import Concat
from backward_worker.ask import Place
from backward_worker.backward import Failed
from backward_worker.compose import Part
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.inquiry import Desk
from backward_worker.merge import Merger
from backward_worker.owner import own_model
from backward_worker.step import Contribution, Partly

Said: TypeAlias = Contribution[TextGradient]
Contributions: TypeAlias = Mapping[str, Sequence[Said]]


async def joined_parts(
    graph: Graph, contributions: Contributions, desk: Desk
) -> tuple[dict[str, Sequence[Said]], list[Failed]]:
    """Return the contributions with one in the place of those from parts of the same batch, and what failed of that.

    It names the operation that put the parts together.
    """
    wholes = _wholes(graph)
    failed: list[Failed] = []

    async def joined(id: str, said: Sequence[Said]) -> Sequence[Said]:
        groups: dict[tuple[str | None, str | None, int | None], list[Said]] = {}
        for one in said:
            whole = wholes.get(one.operation or "") if one.sample is None else None
            # what is no part of a batch stays by itself
            key = (whole, one.input, None) if whole else (one.operation, one.input, one.sample)
            groups.setdefault(key, []).append(one)
        return [
            one
            for (whole, *_), ones in groups.items()
            for one in ([await _merged(graph, id, whole, ones, desk, failed)] if _differ(ones) else ones)
        ]

    done = await asyncio.gather(*(joined(id, said) for id, said in contributions.items()))
    return dict(zip(contributions, done, strict=True)), failed


def _differ(said: Sequence[Said]) -> bool:
    return len({one.operation for one in said}) > 1


async def _merged(
    graph: Graph, id: str, whole: str | None, said: Sequence[Said], desk: Desk, failed: list[Failed]
) -> Said:
    variable = graph.index.variables[id]
    parts = [Part("From a part of a batch", one.gradient.text) for one in said if one.gradient.text]
    depth = 1 + max(one.gradient.depth for one in said)
    place = Place("merge", whole, (said[0].input or "", id))
    merger = Merger(
        desk.asker,
        own_model(graph, said[0].operation),
        place,
        variable.role,
        as_text(variable.data),
        desk.policy,
    )
    outcome = await merger.merge(parts, depth=depth) if parts else EMPTY
    if isinstance(outcome, Partly):
        failed.append(Failed(id, whole or "", None, outcome.error))
        outcome = outcome.gradient
    assert not isinstance(outcome, Error)
    feedback = tuple(dict.fromkeys(one for each in said for one in each.feedback))
    incomplete = any(one.incomplete for one in said)
    return replace(said[0], gradient=outcome, operation=whole, feedback=feedback, incomplete=incomplete)


def _wholes(graph: Graph) -> dict[str, str]:
    """Return for each operation that did a part of a batch the one that put the parts together."""
    found: dict[str, str] = {}
    for at, operation in enumerate(graph.operations):
        if isinstance(operation, Concat):
            for position in graph.index.positions[at]:
                writer = graph.index.writers.get(position.variable)
                if writer is not None:
                    found[graph.operations[writer].id] = operation.id
    return found
