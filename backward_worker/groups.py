"""Which samples of a step one question shows: each alone, or with `digest` as many as a prompt may hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol, Self

from backtalk.prompt import FailedItem
from backtalk.wire.errors import invalid
from backtalk.wire.policy import Policy
from backward_worker.ask import Own
from backward_worker.compose import Questions, Showing, Tally, questions, questions_about_samples
from backward_worker.context import Context, Roots
from backward_worker.fit import fitted, size_of
from backward_worker.gradient import TextGradient
from backward_worker.step import Step
from backward_worker.trace import depth_of


class Shown(Showing, Protocol):
    """What is shown of one sample."""

    def after(self, first: Self) -> Self:
        """Return what is left to show behind the first sample."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of step that is asked about: the template of its prompts, the model it ran on, and what it shows."""

    template: str
    own: Own | None
    show: Callable[[Step[TextGradient], int | None], Shown]


@dataclass(frozen=True)
class Group:
    """The samples that one prompt shows, `number` in the order of the groups; `part` where a step has several.

    `depth` is how many questions come before its answers, its own included; `words` says what it is, for a merger.
    """

    number: int
    samples: Sequence[int | None]
    depth: int
    words: str
    part: int | None
    compose: Callable[[], Questions]

    @cached_property
    def _questions(self) -> Questions:
        return self.compose()

    def questions(self) -> Questions:
        """Return the questions about it; written down once. Raises Refused."""
        return self._questions


@dataclass(frozen=True, slots=True)
class _Grouping:
    """A step to be divided."""

    step: Step[TextGradient]
    kind: Kind
    policy: Policy
    roots: Roots | None

    def single(self, number: int, sample: int | None) -> Group:
        """Return the group that is one sample."""

        def compose() -> Questions:
            case = fitted(self._case(sample), self._room)
            return questions(self.kind.template, case, sample, self._context([sample]))

        return Group(number, (sample,), self._depth([sample]), "", None, compose)

    def several(self, samples: Sequence[int]) -> Iterator[Group]:
        """Yield the groups of a batch: one, or about the square root of its number where that is too much for one."""
        cases = {sample: self._case(sample) for sample in samples}
        first = cases[samples[0]]
        repeated = {sample: case if case is first else case.after(first) for sample, case in cases.items()}
        sizes = [size_of(repeated[sample]) for sample in samples]
        common = size_of(first) - min(sizes) if len(sizes) > 1 else 0
        ranges = _ranges(sizes, common, self._room)
        for number, (start, stop) in enumerate(ranges):
            yield self._group(number, len(ranges), {sample: cases[sample] for sample in samples[start:stop]})

    def _group(self, number: int, count: int, cases: dict[int, Shown]) -> Group:
        samples = list(cases)
        told = "" if count == 1 else f"Part {number + 1} of {count}. "

        def compose() -> Questions:
            first = next(iter(cases.values()))
            room = self._room if len(cases) == 1 else 0
            shown = [
                (sample, fitted(case if case is first else case.after(first), room))
                for sample, case in cases.items()
            ]
            tally = Tally(self.step.batch or 0, told + self._tally(len(samples)))
            return questions_about_samples(self.kind.template, shown, tally, self._context(samples))

        words = f"From {len(samples)} samples of a batch"
        part = None if count == 1 else number
        return Group(number, samples, self._depth(samples), words, part, compose)

    def _tally(self, shown: int) -> str:
        """Say what became of every sample."""
        received = self.step.received
        samples = range(self.step.batch or 0)
        criticised = sum(is_criticised(self.step, sample) for sample in samples)
        silent = sum(bool(received[sample]) for sample in samples) - criticised
        counts = [
            (shown, "shown here"),
            (criticised - shown, "shown elsewhere"),
            (silent, "had nothing to criticise"),
            (len(samples) - criticised - silent, "had no answer, or nobody looked at it"),
        ]
        return "Of these samples, " + ", ".join(f"{count} {words}" for count, words in counts if count) + "."

    @property
    def _room(self) -> int:
        """How many tokens of a prompt are left for what is shown; the words around it take the rest."""
        context = self.policy.context_tokens if self.roots else 0
        return max(200, self.policy.prompt_tokens * 9 // 10 - 700 - context)

    def _case(self, sample: int | None) -> Shown:
        try:
            return self.kind.show(self.step, sample)
        except FailedItem as failed:
            raise invalid("graph", f"{failed}, but an answer to it is recorded; leave that out") from failed

    def _context(self, samples: Sequence[int | None]) -> Context | None:
        return self.roots.context(self.step, samples) if self.roots else None

    def _depth(self, samples: Sequence[int | None]) -> int:
        return 1 + depth_of(self.step, samples)


def groups_of(step: Step[TextGradient], kind: Kind, policy: Policy, roots: Roots | None) -> Sequence[Group]:
    """Return the groups of a step. Where nothing was criticised there is nothing to ask. Raises Refused."""
    grouping = _Grouping(step, kind, policy, roots)
    if step.batch is not None and policy.batch == "digest":
        samples = [sample for sample in range(step.batch) if is_criticised(step, sample)]
        return list(grouping.several(samples)) if samples else []
    wanted = dict.fromkeys(target.sample for target in step.targets)
    criticised = [sample for sample in wanted if is_criticised(step, sample)]
    return [grouping.single(number, sample) for number, sample in enumerate(criticised)]


def is_criticised(step: Step[TextGradient], sample: int | None) -> bool:
    """Tell whether anything was said of a sample in words."""
    return any(said.gradient.text for _, said in step.received[sample])


def _ranges(sizes: Sequence[int], common: int, room: int) -> Sequence[tuple[int, int]]:
    """Return groups of neighbours that fit, as even as can be: one, else about the square root of their number."""
    count = 1
    while True:
        bounds = [round(at * len(sizes) / count) for at in range(count + 1)]
        ranges = [(start, stop) for start, stop in pairwise(bounds)]
        if count >= len(sizes) or all(common + sum(sizes[start:stop]) <= room for start, stop in ranges):
            return ranges
        count = min(len(sizes), max(count + 1, math.isqrt(len(sizes) - 1) + 1))
