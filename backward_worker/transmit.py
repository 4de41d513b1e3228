"""How gradients pass through steps that no model takes: as they are, once, with a word about what they were said of.

However long a chain of such steps is, there is one such word: it names what was criticised in the first place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence

from backtalk.wire.errors import Error
from backtalk.wire.operations import Edit, Regrouping, Split
from backward_worker.backward import Contribution, Step
from backward_worker.gradient import EMPTY, Said, TextGradient
from backward_worker.plan import Target
from backward_worker.quote import quote


def transmit(step: Step[TextGradient]) -> Sequence[Awaitable[TextGradient | Error]]:
    """Return the gradient of every target; where nothing was criticised it is empty."""

    async def passed(target: Target) -> TextGradient:
        return _passed(step, step.received[target.sample])

    return [passed(target) for target in step.targets]


def _passed(
    step: Step[TextGradient], received: Sequence[tuple[str, Contribution[TextGradient]]]
) -> TextGradient:
    # what came by two ways is said once
    said = tuple(
        dict.fromkeys(one for output, contribution in received for one in _said(step, output, contribution))
    )
    if not said:
        return EMPTY
    return TextGradient("\n".join(map(_sentence, said)), "copied", said=said)


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
    if isinstance(operation, Split):
        part = f"part {operation.outputs.index(output) + 1} of {len(operation.outputs)}"
        return f"{role}, {part} of this text"
    return f"{role}, of which this text is a part"


def _sentence(said: Said) -> str:
    return f"Said of {said.of}: {said.text}" if said.of else said.text
