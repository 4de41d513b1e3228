"""One completion job from start to finish: name its values, ask for every item, answer with the tape."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backtalk.prompt import FailedItem
from backtalk.runtime.model import Completion, Model, total
from backtalk.wire.answer import status_of
from backtalk.wire.errors import BacktalkError, Error, invalid
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import DEFAULT_ENDPOINT, CompletionJob, CompletionResult
from backtalk.wire.kinds import Request
from forward_worker.record import Draft, Replies, draft, fragment, reply


@dataclass(frozen=True, slots=True)
class Item:
    """One sample of a job: its completion, or why there is none."""

    completion: Completion | None
    error: Error | None = None


async def complete(request: Request[CompletionJob], *, model: Model) -> CompletionResult:
    """Return the result of a job. Raises Refused where the job cannot be done by anyone."""
    job = request.body
    endpoint = job.backtalk.endpoint or DEFAULT_ENDPOINT
    model.check(endpoint)
    planned = draft(job, request.key)
    items = await _gather(planned, job, endpoint, model)
    graph = _recorded(planned, job, endpoint, items)
    outputs = graph.operations[-1].outputs if graph else ()
    return CompletionResult(
        id=request.id,
        status=status_of(
            anything=any(item.completion for item in items), failures=any(item.error for item in items)
        ),
        completions=tuple(item.completion.body if item.completion else _as_json(item) for item in items),
        outputs=outputs,
        output=outputs[0] if outputs else None,
        graph=graph,
        usage=total(item.completion.usage for item in items if item.completion),
        metadata=job.backtalk.metadata,
        error=items[0].error if all(item.error for item in items) else None,
    )


async def _gather(planned: Draft, job: CompletionJob, endpoint: str, model: Model) -> Sequence[Item]:
    items = [complete_one(planned, job, endpoint, sample, model=model) for sample in planned.samples]
    # a single item, the common case, needs no task of its own
    return [await items[0]] if len(items) == 1 else await asyncio.gather(*items)


async def complete_one(
    planned: Draft, job: CompletionJob, endpoint: str, sample: int | None, *, model: Model
) -> Item:
    """Return one item of a job; its failure is its own."""
    try:
        messages = planned.conversation.render(sample)
        return Item(await model.complete(endpoint, _body(job, messages)))
    except FailedItem as failed:
        return Item(None, invalid("inputs", str(failed)).error)
    except BacktalkError as failed:
        return Item(None, failed.error)


def _body(job: CompletionJob, messages: list[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {"model": job.model, "messages": messages, **job.arguments}
    if job.tools is not None:
        body["tools"] = job.tools
    if job.tool_choice is not None:
        body["tool_choice"] = job.tool_choice
    return body


def _recorded(planned: Draft, job: CompletionJob, endpoint: str, items: Sequence[Item]) -> Graph | None:
    if not planned.wanted or not any(item.completion for item in items):
        return None
    replies: Replies = [
        [reply(choice["message"]) for choice in _in_order(item.completion)] if item.completion else None
        for item in items
    ]
    return fragment(planned, job, endpoint, replies)


def _in_order(completion: Completion) -> list[dict[str, Any]]:
    return sorted(completion.choices, key=lambda choice: choice.get("index") or 0)


def _as_json(item: Item) -> dict[str, Any]:
    assert item.error is not None
    return {"error": item.error.model_dump(mode="json")}
