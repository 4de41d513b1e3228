"""Feedback on a large batch as several messages, so that many workers share it; and their answers as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from backtalk.wire.answer import status_of
from backtalk.wire.errors import invalid
from backtalk.wire.feedback import Call, Feedback, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.policy import Policy
from backtalk.wire.usage import total

_LAST: Final = 1 << 62


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
    stated = policy.model_copy(update={"batch": "per_sample", "summary": False})
    return [
        feedback.model_copy(update={"samples": (bounds[at], bounds[at + 1]), "policy": stated})
        for at in range(count)
    ]


def whole(answers: Sequence[Gradients], graph: Graph, id: str) -> Gradients:
    """Return the answers to the parts of a batch, in their order, as if it had been one message.

    A part that failed as a whole makes the answer `partial`; `error` says why.
    """
    place = _places(graph)
    ids = dict.fromkeys(id for answer in answers for id in answer.gradients)
    gradients = {
        id: tuple(
            sorted(
                (entry for answer in answers for entry in answer.gradients.get(id, ())),
                key=lambda entry: place(entry.operation, entry.input),
            )
        )
        for id in ids
    }
    failures = tuple(
        sorted(
            (failure for answer in answers for failure in answer.failures),
            key=lambda failure: place(failure.operation, failure.variable),
        )
    )
    broken = [answer for answer in answers if answer.status == "failed"]
    status = status_of(
        anything=any(gradients.values()) or len(broken) < len(answers), failures=bool(failures or broken)
    )
    operations = dict.fromkeys(id for answer in answers for id in answer.usage_by_operation)
    return Gradients(
        id=id,
        status=status,
        gradients=gradients,
        failures=failures,
        usage=total(answer.usage for answer in answers),
        calls=_in_order((call for answer in answers for call in answer.calls), place),
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


Place = Callable[[str | None, str | None], tuple[int, int]]


def _places(graph: Graph) -> Place:
    """Return what tells where on the tape an operation reads something: at a position, or a variable."""
    known: dict[str, Mapping[str, int]] = {}

    def place(operation: str | None, read: str | None) -> tuple[int, int]:
        at = graph.index.operations.get(operation or "")
        if operation is None or at is None:
            return (-1, 0)
        if operation not in known:
            positions = graph.index.positions[at]
            # the first read of a variable counts
            known[operation] = {
                name: number
                for number, position in reversed(list(enumerate(positions)))
                for name in (position.path, position.variable)
            }
        return (at, known[operation].get(read or "", _LAST))

    return place


def _in_order(calls: Iterable[Call], place: Place) -> tuple[Call, ...]:
    def order(call: Call) -> Any:
        return (*place(call.operation, call.inputs[0] if call.inputs else None), call.inputs)

    return tuple(sorted(calls, key=order))
