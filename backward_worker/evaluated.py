"""How a gradient starts at an evaluation: with its own explanation, sample by sample, and without a call."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from backtalk.prompt import as_text
from backtalk.wire.errors import Error, invalid
from backtalk.wire.evaluations import Evaluation
from backward_worker.gradient import EMPTY, Said, TextGradient
from backward_worker.plan import Target
from backward_worker.quote import quote
from backward_worker.step import Step
from backward_worker.transmit import sayings, told


def evaluated(step: Step[TextGradient]) -> Sequence[Awaitable[TextGradient | Error]]:
    """Return the gradient of every target: empty where nothing was criticised, and where the sample succeeded."""

    async def start(target: Target) -> TextGradient | Error:
        return _start(step, target.sample)

    return [start(target) for target in step.targets]


def _start(step: Step[TextGradient], sample: int | None) -> TextGradient | Error:
    operation, at = step.operation, sample or 0
    assert isinstance(operation, Evaluation)
    if operation.succeeded[at] or not any(said.gradient.criticises for _, said in step.received[sample]):
        return EMPTY
    if operation.scores[at] is None:
        return _unscored(step, operation, sample)
    explanation = operation.explanations[at]
    own = (Said(explanation, None),) if explanation.strip() else ()
    return told((*own, *sayings(step, sample)) or (_bare(operation, at),))


def _unscored(step: Step[TextGradient], operation: Evaluation, sample: int | None) -> TextGradient | Error:
    """Tell an item that could not be scored from one that there is nothing to score of: it failed before."""
    if step.graph.index.variables[operation.inputs[0]].value(sample) is None:
        return EMPTY
    item = "the prediction" if sample is None else f"item {sample}"
    return invalid(
        "graph",
        f"operation {operation.id!r} did not score {item}, so nothing is known of it; "
        "evaluate it again, or leave it out",
        operation=operation.id,
        sample=sample,
    ).error


def _bare(operation: Evaluation, at: int) -> Said:
    return Said(
        f"The score is {as_text(operation.scores[at])}; what was measured: {quote(operation.purpose)}.", None
    )
