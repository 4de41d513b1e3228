"""What a gradient carries of where it comes from: the feedback behind it, and how many questions it took."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from backtalk.wire.errors import Error
from backward_worker.gradient import Root, TextGradient
from backward_worker.plan import Target
from backward_worker.step import Contribution, Outcome, Partly, Step, gradient_of


def traced(
    rule: Callable[[Step[TextGradient]], Sequence[Awaitable[Outcome[TextGradient]]]], step: Step[TextGradient]
) -> Sequence[Awaitable[Outcome[TextGradient]]]:
    """Return what a rule does, with the origin of every gradient on it."""

    async def one(target: Target, awaitable: Awaitable[Outcome[TextGradient]]) -> Outcome[TextGradient]:
        outcome = await awaitable
        if isinstance(outcome, Error):
            return outcome
        gradient = gradient_of(outcome)
        if not gradient.criticises:
            return outcome
        marked = replace(
            gradient,
            roots=roots_of(step, target.sample),
            depth=max(gradient.depth, depth_of(step, [target.sample])),
        )
        return replace(outcome, gradient=marked) if isinstance(outcome, Partly) else marked

    return [one(target, awaitable) for target, awaitable in zip(step.targets, rule(step), strict=True)]


def roots_of(step: Step[TextGradient], sample: int | None) -> tuple[Root, ...]:
    """Return the feedback behind what was said of one sample, or of all samples of a batch."""
    samples = range(step.batch) if sample is None and step.batch is not None else (sample,)
    return tuple(dict.fromkeys(root for one in samples for root in _of_sample(step, one)))


def depth_of(step: Step[TextGradient], samples: Sequence[int | None]) -> int:
    """Return how many questions it took to hear what was said of some samples."""
    return max((said.gradient.depth for sample in samples for _, said in step.received[sample]), default=0)


def deepest(contributions: Mapping[str, Sequence[Contribution[TextGradient]]]) -> int:
    """Return how many questions it took to hear everything."""
    return max((one.gradient.depth for said in contributions.values() for one in said), default=0)


def _of_sample(step: Step[TextGradient], sample: int | None) -> Iterator[Root]:
    for _, said in step.received[sample]:
        for root in said.gradient.roots:
            # what was said of a whole batch was said of each of its items
            yield Root(root.feedback, sample) if root.item is None and said.operation is None else root
