"""One text for all gradients of a variable, beside the list of them: who wants to read only one reads this."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from backtalk.prompt import as_text
from backtalk.wire.feedback import Summary
from backtalk.wire.graph import Graph
from backward_worker.ask import Own, Place
from backward_worker.backward import Failed
from backward_worker.compose import Part
from backward_worker.gradient import TextGradient
from backward_worker.inquiry import Desk
from backward_worker.merge import Merger
from backward_worker.owner import own_model
from backward_worker.quote import quote
from backward_worker.step import Contribution, Partly, error_of, feedback_of, gradient_of
from backward_worker.trace import deepest


async def summaries(
    graph: Graph,
    contributions: Mapping[str, Sequence[Contribution[TextGradient]]],
    missing: Iterable[tuple[str, str]],
    desk: Desk,
) -> tuple[dict[str, Summary], list[Failed]]:
    """Return the summary of every variable that was heard of, and what failed of that."""
    heard = {id: said for id, said in contributions.items() if said}
    depth = 1 + deepest(heard)
    lacking = {variable for variable, _ in missing}
    done = await asyncio.gather(*(_merged(graph, id, said, desk, depth) for id, said in heard.items()))
    failed = [
        Failed(id, None, None, error) for id, one in zip(heard, done, strict=True) if (error := error_of(one))
    ]
    return {
        id: _summary(graph, id, said, gradient_of(one), desk, lacking=id in lacking)
        for (id, said), one in zip(heard.items(), done, strict=True)
    }, failed


async def _merged(
    graph: Graph, id: str, said: Sequence[Contribution[TextGradient]], desk: Desk, depth: int
) -> TextGradient | Partly[TextGradient]:
    """Return one gradient in the place of all; where only one says anything, and that in short, it is that one."""
    variable, most = graph.index.variables[id], desk.policy.summary_characters
    parts = [Part(_origin(one), one.gradient.text) for one in said if one.gradient.text]
    if len(parts) == 1 and len(parts[0].text) <= most:
        return TextGradient(parts[0].text, "copied")
    shown = (
        f"[a batch of {len(variable.data)}]" if isinstance(variable.data, tuple) else as_text(variable.data)
    )
    place = Place("summary", None, (id,))
    merger = Merger(desk.asker, _own(graph, said), place, variable.role, shown, desk.policy, most)
    return await merger.merge(parts, depth=depth)


def _summary(
    graph: Graph,
    id: str,
    said: Sequence[Contribution[TextGradient]],
    gradient: TextGradient,
    desk: Desk,
    *,
    lacking: bool,
) -> Summary:
    most = desk.policy.summary_characters
    cut = len(gradient.text) > most
    return Summary(
        text=f"{gradient.text[: most - 1]}…" if cut else gradient.text,
        role=f"feedback to {graph.index.variables[id].role}",
        how=gradient.how,
        entries=tuple(at for at, one in enumerate(said) if one.gradient.text),
        feedback=feedback_of(said),
        incomplete=lacking or any(one.incomplete for one in said),
        cut=cut,
    )


def _origin(said: Contribution[TextGradient]) -> str:
    item = "" if said.sample is None else f", for item {said.sample} of a batch"
    return (
        f"Said directly{item}"
        if said.operation is None
        else f"As it was read at {quote(said.input or '')}{item}"
    )


def _own(graph: Graph, said: Sequence[Contribution[TextGradient]]) -> Own | None:
    """Return the model of the first call that read the variable."""
    return next((own for one in said if (own := own_model(graph, one.operation))), None)
