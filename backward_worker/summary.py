"""One text for all gradients of a variable, beside the list of them: who wants to read only one reads this."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from backtalk.prompt import as_text
from backtalk.wire.errors import Error
from backtalk.wire.feedback import Summary
from backtalk.wire.graph import Graph
from backward_worker.ask import Own, Place
from backward_worker.backward import Failed
from backward_worker.compose import Part
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.inquiry import Desk
from backward_worker.merge import Merger
from backward_worker.owner import own_model
from backward_worker.quote import quote
from backward_worker.step import Contribution, Partly
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
    done = await asyncio.gather(*(_summary(graph, id, said, desk, depth) for id, said in heard.items()))
    failed = [Failed(id, None, None, error) for id, (_, error) in zip(heard, done, strict=True) if error]
    lacking = {variable for variable, _ in missing}
    return {
        id: summary.model_copy(update={"incomplete": summary.incomplete or id in lacking})
        for id, (summary, _) in zip(heard, done, strict=True)
    }, failed


async def _summary(
    graph: Graph, id: str, said: Sequence[Contribution[TextGradient]], desk: Desk, depth: int
) -> tuple[Summary, Error | None]:
    variable, most = graph.index.variables[id], desk.policy.summary_characters
    spoken = {at: one for at, one in enumerate(said) if one.gradient.text}
    gradient, error = EMPTY, None
    if len(spoken) == 1 and len(only := next(iter(spoken.values())).gradient.text) <= most:
        gradient = TextGradient(only, "copied")
    elif spoken:
        shown = (
            variable.data if not isinstance(variable.data, tuple) else f"[a batch of {len(variable.data)}]"
        )
        merger = Merger(
            desk.asker,
            _own(graph, said),
            Place("summary", None, (id,)),
            variable.role,
            as_text(shown),
            desk.policy,
            most,
        )
        outcome = await merger.merge(
            [Part(_origin(one), one.gradient.text) for one in spoken.values()],
            depth=depth,
        )
        assert not isinstance(outcome, Error)
        gradient = outcome.gradient if isinstance(outcome, Partly) else outcome
        error = outcome.error if isinstance(outcome, Partly) else None
    cut = len(gradient.text) > most
    summary = Summary(
        text=f"{gradient.text[: most - 1]}…" if cut else gradient.text,
        role=f"feedback to {variable.role}",
        how=gradient.how,
        entries=tuple(spoken),
        feedback=tuple(dict.fromkeys(id for one in said for id in one.feedback)),
        incomplete=any(one.incomplete for one in said),
        cut=cut,
    )
    return summary, error


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
