"""One completion job from start to finish: plan it, ask for every item, answer with the tape."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from backtalk.runtime.emit import Emit
from backtalk.runtime.model import Model
from backtalk.wire.answer import status_of
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob, CompletionResult
from backtalk.wire.kinds import Request
from backtalk.wire.usage import total
from forward_worker.item import Item, complete_one
from forward_worker.plan import Plan, endpoint_of
from forward_worker.record import fragment
from forward_worker.tools.inject import Toolbox


async def complete(
    request: Request[CompletionJob], *, model: Model, emit: Emit, toolbox: Toolbox
) -> CompletionResult:
    """Return the result of a job. Raises Refused where the job cannot be done by anyone."""
    job = request.body
    model.check(endpoint_of(job))
    plan = Plan.of(job, request.key, toolbox)
    items = await _gather(plan, model, emit)
    graph = _recorded(plan, items)
    outputs = graph.operations[-1].outputs if graph else ()
    return CompletionResult(
        id=request.id,
        status=status_of(
            anything=any(item.completion for item in items), failures=any(item.error for item in items)
        ),
        completions=tuple(item.answer for item in items),
        outputs=outputs,
        output=outputs[0] if outputs else None,
        graph=graph,
        usage=total(usage for item in items for usage in item.usages),
        metadata=job.backtalk.metadata,
        error=items[0].error if all(item.error for item in items) else None,
    )


async def _gather(plan: Plan, model: Model, emit: Emit) -> Sequence[Item]:
    items = [complete_one(plan, sample, model=model, emit=emit) for sample in plan.samples]
    # a single item, the common case, needs no task of its own
    return [await items[0]] if len(items) == 1 else await asyncio.gather(*items)


def _recorded(plan: Plan, items: Sequence[Item]) -> Graph | None:
    if not plan.draft.wanted or not any(item.completion for item in items):
        return None
    injected = plan.tooling.injected
    turns = tuple(turn for item in items for turn in item.turns)
    if injected and turns:
        injected = injected.model_copy(update={"turns": turns})
    replies = [item.replies if item.completion else None for item in items]
    return fragment(plan.draft, plan.job, plan.endpoint, replies, injected)
