"""How gradients pass through steps that no model takes: as they are, once, with a word about what they were said of.

However long a chain of such steps is, there is one such word: it names what was criticised in the first place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence

from backtalk.wire.errors import Error
from backtalk.wire.evaluations import Evaluation, explains_itself
from backtalk.wire.operations import Edit, Function, Regrouping, Split
from backward_worker.gradient import EMPTY, Said, TextGradient
from backward_worker.plan import Target
from backward_worker.quote import quote
from backward_worker.step import Contribution, Step


def transmit(step: Step[TextGradient]) -> Sequence[Awaitable[TextGradient | Error]]:
    """Return the gradient of every target; where nothing was criticised it is empty."""

    async def passed(target: Target) -> TextGradient:
        return told(sayings(step, target.sample))

    return [passed(target) for target in step.targets]


def sayings(step: Step[TextGradient], sample: int | None) -> tuple[Said, ...]:
    """Return what was said of the outputs for one sample; what came by two ways is said once."""
    received = step.received[sample]
    return tuple(
        dict.fromkeys(one for output, contribution in received for one in _said(step, output, contribution))
    )


def told(said: tuple[Said, ...]) -> TextGradient:
    """Return the gradient that consists of these criticisms."""
    return TextGradient("\n".join(map(_sentence, said)), "copied", said=said) if said else EMPTY


def _said(step: Step[TextGradient], output: str, contribution: Contribution[TextGradient]) -> Iterator[Said]:
    """Yield what a contribution says; what passed through steps before keeps the name of what it was said of."""
    gradient = contribution.gradient
    name = None if isinstance(step.operation, Regrouping) else _name(step, output)
    if gradient.said:
        yield from (one if one.of else Said(one.text, name) for one in gradient.said)
    elif gradient.text:
        yield Said(gradient.text, name)


def _name(step: Step[TextGradient], output: str) -> str:
    """Return what an output is to the text that gets the gradient."""
    role = quote(step.graph.index.variables[output].role)
    operation = step.operation
    if isinstance(operation, Edit):
        return f"{role}, which the program made of this text"
    if isinstance(operation, Function):
        return f"{role}, which the function {quote(operation.name)} made of this text"
    if isinstance(operation, Evaluation):
        return role if explains_itself(operation) else f"{role}, which was read out of this text"
    if isinstance(operation, Split):
        part = f"part {operation.outputs.index(output) + 1} of {len(operation.outputs)}"
        return f"{role}, {part} of this text"
    return f"{role}, of which this text is a part"


def _sentence(said: Said) -> str:
    return f"Said of {said.of}: {said.text}" if said.of else said.text
