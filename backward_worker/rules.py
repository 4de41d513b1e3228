"""How each kind of operation passes gradients back: a row for each op, and the test that none is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias

from backtalk.wire.evaluations import explains_itself
from backtalk.wire.graph import ChatCompletion
from backtalk.wire.operations import Function
from backward_worker.ask import Own
from backward_worker.case import cases
from backward_worker.evaluated import evaluated
from backward_worker.function import uses
from backward_worker.gradient import TextGradient
from backward_worker.groups import Kind
from backward_worker.inquiry import Desk, Inquiry
from backward_worker.step import Outcome, Rules, Step
from backward_worker.trace import traced
from backward_worker.transmit import transmit

Outcomes: TypeAlias = Sequence[Awaitable[Outcome[TextGradient]]]


class AskingRule(Protocol):
    """A rule that may ask the model."""

    def __call__(self, step: Step[TextGradient], /, *, desk: Desk) -> Outcomes: ...


def passed_on(step: Step[TextGradient], *, desk: Desk) -> Outcomes:  # noqa: ARG001
    """No question: what was said of the outputs is said of the inputs."""
    return transmit(step)


def evaluation(step: Step[TextGradient], *, desk: Desk) -> Outcomes:  # noqa: ARG001
    """No question: an evaluation explains itself, and what was said of a judge that is trained is passed on."""
    return evaluated(step) if explains_itself(step.operation) else transmit(step)


def chat_completion(step: Step[TextGradient], *, desk: Desk) -> Outcomes:
    """Questions to the backward model, or where none is named, to the call's own."""
    call = step.operation
    assert isinstance(call, ChatCompletion)
    return Inquiry(step, desk, Kind("call", Own(call.endpoint, call.model), cases)).outcomes()


def function(step: Step[TextGradient], *, desk: Desk) -> Outcomes:
    """As the program chose: no question, or questions to the backward model."""
    assert isinstance(step.operation, Function)
    if step.operation.transmit == "verbatim":
        return transmit(step)
    return Inquiry(step, desk, Kind("function", None, uses)).outcomes()


TABLE: Final[Mapping[str, AskingRule]] = {
    "chat_completion": chat_completion,
    "add": passed_on,
    "sum": passed_on,
    "split": passed_on,
    "edit": passed_on,
    "slice": passed_on,
    "concat": passed_on,
    "evaluate": evaluation,
    "judge": evaluation,
    "function": function,
}


def rules(desk: Desk) -> Rules[TextGradient]:
    """Return the table with the model bound to it, for one message."""
    bound = {op: partial(rule, desk=desk) for op, rule in TABLE.items()}
    return {op: partial(traced, rule) for op, rule in bound.items()} if desk.traces else bound
