"""Feedback on a large batch as several messages, so that many workers share it; and their answers as one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from backtalk.places import Places, call_order, failure_order
from backtalk.wire.answer import status_of
from backtalk.wire.errors import invalid
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.policy import Policy
from backtalk.wire.usage import total


def parts_of(feedback: Feedback, graph: Graph, count: int) -> list[Feedback]:
    """Return up to `count` messages that share the samples of a batch evenly, in order.

    Raises Refused where the feedback is on single values, on batches of several lengths, or asks for what only one
    message can do: a digest, a summary.
    """
    if count < 1:
        raise ValueError(f"split is {count}; it is the number of messages, at least 1")
    policy = feedback.policy or Policy()
    for asked, name in ((policy.batch == "digest", "batch"), (policy.summary, "summary")):
        if asked:
            raise invalid(f"policy/{name}", "needs all samples in one message; leave `split` out, or this")
    if feedback.samples is not None:
        raise invalid("samples", "says already which are meant; leave `split` out, or this")
    lengths = {item.variable: _samples(graph, item.variable) for item in feedback.feedback}
    length = next(iter(lengths.values()))
    if length is None or len(set(lengths.values())) > 1:
        told = ", ".join(f"{id!r} has {count or 'none'}" for id, count in lengths.items())
        raise invalid("feedback", f"a batch is needed to split, and one length ({told}); leave `split` out")
    count = min(count, length)
    bounds = [at * length // count for at in range(count + 1)]
    # a policy that is not stated stays with the worker, but for what a split cannot have
    kept = {name: getattr(policy, name) for name in policy.model_fields_set - {"summary_characters"}}
    stated = Policy(**kept | {"batch": "per_sample", "summary": False})
    return [
        feedback.model_copy(update={"samples": (bounds[at], bounds[at + 1]), "policy": stated})
        for at in range(count)
    ]


async def together(calls: Iterable[Coroutine[Any, Any, Gradients]]) -> list[Gradients]:
    """Return the answers to all calls; where one fails, the others are let go of."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def whole(answers: Sequence[Gradients], graph: Graph, id: str) -> Gradients:
    """Return the answers to the parts of a batch, in their order, as if it had been one message.

    What all samples read, and an operation without the batch wrote, each part has asked about by itself; and feedback
    in one text on a batch that is wanted itself is an entry for each item. A part that failed as a whole makes the
    answer `partial`; `error` says why.
    """
    places = Places(graph)
    ids = dict.fromkeys(id for answer in answers for id in answer.gradients)
    gradients = {
        id: tuple(
            sorted(
                (entry for answer in answers for entry in answer.gradients.get(id, ())),
                key=lambda entry: places.of(entry.operation, entry.input),
            )
        )
        for id in ids
    }
    failures = (failure for answer in answers for failure in answer.failures)
    broken = [answer for answer in answers if answer.status == "failed"]
    status = status_of(
        anything=any(gradients.values()) or len(broken) < len(answers),
        failures=any(answer.failures for answer in answers) or bool(broken),
    )
    operations = dict.fromkeys(id for answer in answers for id in answer.usage_by_operation)
    return Gradients(
        id=id,
        status=status,
        gradients=gradients,
        failures=tuple(sorted(failures, key=lambda one: failure_order(one, places))),
        usage=total(answer.usage for answer in answers),
        calls=tuple(
            sorted(
                (call for answer in answers for call in answer.calls),
                key=lambda call: call_order(call, places),
            )
        ),
        usage_by_operation={
            id: total(answer.usage_by_operation.get(id, {}) for answer in answers) for id in operations
        },
        metadata=answers[0].metadata,
        error=broken[0].error if broken else None,
    )


def _samples(graph: Graph, id: str) -> int | None:
    if id not in graph.index.variables:
        raise invalid("feedback", f"{id!r} is not a variable of the graph; name one that is")
    return graph.samples(id)
