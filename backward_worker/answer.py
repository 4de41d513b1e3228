"""What a pass found, as its sender reads it: the same whatever the order in which replies came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backtalk.places import Places, call_order, failure_order
from backtalk.prompt import as_text
from backtalk.wire.answer import status_of
from backtalk.wire.feedback import Call, Entry, Failure, Feedback, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.kinds import Request
from backtalk.wire.usage import total
from backward_worker.ask import Paid
from backward_worker.gradient import EMPTY, UNSAID, TextGradient
from backward_worker.seeds import Seed
from backward_worker.work import Done


def answer(request: Request[Feedback], graph: Graph, done: Done, paid: Sequence[Paid]) -> Gradients:
    """Return the answer to a feedback message."""
    gradients = {
        id: tuple(_entry(graph, id, said) for said in contributions)
        for id, contributions in done.contributions.items()
    }
    places = Places(graph)
    told = (
        Failure(variable=one.variable, operation=one.operation, sample=one.sample, error=one.error)
        for one in done.failures
    )
    failures = tuple(sorted(told, key=lambda one: failure_order(one, places)))
    status = status_of(anything=any(gradients.values()), failures=bool(failures))
    calls = _calls(paid, places)
    return Gradients(
        id=request.id,
        status=status,
        gradients=gradients,
        failures=failures,
        summaries=dict(done.summaries),
        usage=_used(calls),
        calls=calls,
        usage_by_operation=_by_operation(calls),
        metadata=request.body.backtalk.metadata,
        error=failures[0].error if status == "failed" else None,
    )


def _entry(graph: Graph, id: str, said: Seed) -> Entry:
    gradient = _explanation(graph, id, said.sample) if said.gradient == UNSAID else said.gradient
    return Entry(
        text=gradient.text,
        role=f"feedback to {graph.index.variables[id].role}",
        operation=said.operation,
        input=said.input,
        sample=said.sample,
        feedback=said.feedback,
        how=gradient.how,
        incomplete=said.incomplete,
    )


def _explanation(graph: Graph, id: str, sample: int | None) -> TextGradient:
    """Return what the evaluation that wrote a variable says itself, for feedback without words on the variable."""
    writer = graph.writer(id)
    assert writer is not None
    text = as_text(graph.index.variables[writer.outputs[1]].value(sample))
    return TextGradient(text, "copied") if text else EMPTY


def _calls(paid: Iterable[Paid], places: Places) -> tuple[Call, ...]:
    calls = (
        Call(
            purpose=one.place.purpose,
            operation=one.place.operation,
            inputs=one.place.inputs,
            sample=one.place.sample,
            part=one.place.part,
            usage=dict(one.usage),
        )
        for one in paid
    )
    return tuple(sorted(calls, key=lambda call: call_order(call, places)))


def _used(calls: Sequence[Call]) -> dict[str, Any]:
    return {**total(call.usage for call in calls), "calls": len(calls)}


def _by_operation(calls: Iterable[Call]) -> Mapping[str, dict[str, Any]]:
    found: dict[str, list[Call]] = {}
    for call in calls:
        if call.operation is not None:
            found.setdefault(call.operation, []).append(call)
    return {id: _used(asked) for id, asked in found.items()}
