"""One gradient of what a batch shares, also where its items were done by several calls: the parts of one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from backtalk.prompt import as_text
from backtalk.wire.graph import Graph
from backtalk.wire.operations import Concat
from backward_worker.ask import Place
from backward_worker.backward import Failed
from backward_worker.compose import Part
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.inquiry import Desk
from backward_worker.merge import Merger
from backward_worker.owner import own_model
from backward_worker.step import Contribution, Partly, error_of, feedback_of, gradient_of
from backward_worker.trace import deepest

Said: TypeAlias = Contribution[TextGradient]


async def joined_parts(
    graph: Graph, contributions: Mapping[str, Sequence[Said]], missing: Iterable[tuple[str, str]], desk: Desk
) -> tuple[dict[str, Sequence[Said]], list[Failed]]:
    """Return the contributions with one in the place of those from parts of the same batch, and what failed of that.

    It names the operation that put the parts together. `missing` are variables and operations that should have said
    something.
    """
    wholes = _wholes(graph)
    lacking = {(variable, wholes.get(operation)) for variable, operation in missing}
    parts = _Parts(graph, desk, wholes, lacking, 1 + deepest(contributions))
    done = await asyncio.gather(*(parts.joined(id, said) for id, said in contributions.items()))
    return {id: said for id, (said, _) in zip(contributions, done, strict=True)}, [
        failed for _, each in done for failed in each
    ]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The operations that did parts of a batch, and of which batch something about a variable failed."""

    graph: Graph
    desk: Desk
    wholes: Mapping[str, str]
    lacking: set[tuple[str, str | None]]
    depth: int

    async def joined(self, id: str, said: Sequence[Said]) -> tuple[Sequence[Said], list[Failed]]:
        groups: dict[tuple[str | None, str | None, int | None], list[Said]] = {}
        for at, one in enumerate(said):
            whole = self.wholes.get(one.operation or "") if one.sample is None else None
            # what is no part of a batch stays by itself
            groups.setdefault((whole, one.input, None if whole else at), []).append(one)
        done = await asyncio.gather(*(self._one(id, whole, ones) for (whole, *_), ones in groups.items()))
        return [one for one, _ in done], [failed for _, failed in done if failed is not None]

    async def _one(self, id: str, whole: str | None, said: Sequence[Said]) -> tuple[Said, Failed | None]:
        if whole is None:
            return said[0], None
        outcome = await self._merged(id, whole, said)
        error = error_of(outcome)
        told = replace(
            said[0],
            gradient=gradient_of(outcome),
            operation=whole,
            feedback=feedback_of(said),
            incomplete=(id, whole) in self.lacking or any(one.incomplete for one in said),
        )
        return told, None if error is None else Failed(id, whole, None, error)

    async def _merged(self, id: str, whole: str, said: Sequence[Said]) -> TextGradient | Partly[TextGradient]:
        spoken = [one.gradient for one in said if one.gradient.text]
        if len(spoken) < 2:
            return spoken[0] if spoken else EMPTY
        if all(gradient.how == "copied" for gradient in spoken):
            # what no model said needs none to be put together
            return replace(spoken[0], text="\n".join(dict.fromkeys(one.text for one in spoken)))
        variable = self.graph.index.variables[id]
        merger = Merger(
            self.desk.asker,
            own_model(self.graph, said[0].operation),
            Place("merge", whole, (said[0].input or "", id)),
            variable.role,
            as_text(variable.data),
            self.desk.policy,
        )
        parts = [Part("From a part of a batch", gradient.text) for gradient in spoken]
        return await merger.merge(parts, depth=self.depth)


def _wholes(graph: Graph) -> dict[str, str]:
    """Return for each operation that did a part of a batch the one that put the parts together."""
    found: dict[str, str] = {}
    for at, operation in enumerate(graph.operations):
        if isinstance(operation, Concat):
            for position in graph.index.positions[at]:
                if writer := graph.writer(position.variable):
                    found[writer.id] = operation.id
    return found
