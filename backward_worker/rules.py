"""How each kind of operation passes gradients back: a row for each op, and the test that none is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from typing import Final, Protocol

from backtalk.prompt import FailedItem
from backtalk.wire.errors import Error, Refused, invalid
from backtalk.wire.evaluations import explains_itself
from backtalk.wire.graph import ChatCompletion
from backtalk.wire.operations import Function
from backward_worker.ask import Asker, Own
from backward_worker.backward import Rules, Step
from backward_worker.case import case
from backward_worker.compose import Questions, questions
from backward_worker.evaluated import evaluated
from backward_worker.function import use
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.plan import Target
from backward_worker.transmit import transmit


class AskingRule(Protocol):
    """A rule that may ask the model."""

    def __call__(
        self, step: Step[TextGradient], /, *, asker: Asker
    ) -> Sequence[Awaitable[TextGradient | Error]]: ...


def passed_on(step: Step[TextGradient], *, asker: Asker) -> Sequence[Awaitable[TextGradient | Error]]:  # noqa: ARG001
    """No question: what was said of the outputs is said of the inputs."""
    return transmit(step)


def evaluation(step: Step[TextGradient], *, asker: Asker) -> Sequence[Awaitable[TextGradient | Error]]:  # noqa: ARG001
    """No question: an evaluation explains itself, and what was said of a judge that is trained is passed on."""
    return evaluated(step) if explains_itself(step.operation) else transmit(step)


def chat_completion(step: Step[TextGradient], *, asker: Asker) -> Sequence[Awaitable[TextGradient | Error]]:
    """One question for each wanted input and sample."""
    call = step.operation
    assert isinstance(call, ChatCompletion)
    own = Own(call.endpoint, call.model)
    return _asked(step, asker, own, lambda sample: questions("call", case(step, sample)))


def function(step: Step[TextGradient], *, asker: Asker) -> Sequence[Awaitable[TextGradient | Error]]:
    """As the program chose: no question, or one for each wanted input and sample."""
    assert isinstance(step.operation, Function)
    if step.operation.transmit == "verbatim":
        return transmit(step)
    return _asked(step, asker, None, lambda sample: questions("function", use(step, sample)))


def _asked(
    step: Step[TextGradient], asker: Asker, own: Own | None, prepare: Callable[[int | None], Questions]
) -> Sequence[Awaitable[TextGradient | Error]]:
    """Ask about each target; where nothing was criticised there is nothing to ask."""
    prepared = cache(prepare)

    async def ask(target: Target) -> TextGradient | Error:
        if not any(said.gradient.text for _, said in step.received[target.sample]):
            return EMPTY
        # a prompt holds the whole step: no more of them than can be asked about at once
        async with asker.room:
            try:
                messages = prepared(target.sample).about(target)
            except FailedItem as failed:
                return invalid("graph", f"{failed}, but an answer to it is recorded; leave that out").error
            except Refused as refused:
                return refused.error
            place = f"{step.operation.id}/{target.position.path}/{target.sample}"
            return await asker.ask(own, messages, place)

    return [ask(target) for target in step.targets]


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


def rules(asker: Asker) -> Rules[TextGradient]:
    """Return the table with the model bound to it, for one message."""
    return {op: partial(rule, asker=asker) for op, rule in TABLE.items()}
