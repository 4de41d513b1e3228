"""Which samples of a step one question shows: each alone, or with `digest` as many as a prompt may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol, Self

from backtalk.prompt import FailedItem
from backtalk.wire.errors import Error, Refused, invalid
from backtalk.wire.policy import Policy
from backward_worker.ask import Own
from backward_worker.compose import Questions, Showing, Tally, questions, questions_about_samples
from backward_worker.context import Context, Roots
from backward_worker.fit import fitted, size_of
from backward_worker.gradient import TextGradient
from backward_worker.ranges import ranges_of
from backward_worker.reads import Reads
from backward_worker.step import Step
from backward_worker.tokens import estimated
from backward_worker.trace import depth_of

_AT_A_TIME: Final = 200


class Shown(Showing, Protocol):
    """What is shown of one sample."""

    def after(self, first: Self) -> Self:
        """Return what is left to show behind the first sample."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of step that is asked about: the template of its prompts, the model it ran on, and what it shows."""

    template: str
    own: Own | None
    shows: Callable[[Step[TextGradient], Reads], Callable[[int | None], Shown]]


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
    def questions(self) -> Questions:
        """The questions about it, written down once. Raises Refused."""
        return self.compose()


@dataclass(frozen=True)
class Groups:
    """The groups of a step, and why samples are in none that should be."""

    groups: Sequence[Group]
    broken: Mapping[int, Error] = field(default_factory=dict)

    @cached_property
    def showing(self) -> Mapping[int | None, Group]:
        """The group that shows each sample."""
        return {sample: group for group in self.groups for sample in group.samples}


async def groups_of(
    step: Step[TextGradient], reads: Reads, kind: Kind, policy: Policy, roots: Roots | None
) -> Groups:
    """Return the groups of a step. Where nothing was criticised there is nothing to ask."""
    grouping = _Grouping(step, reads, kind, policy, roots)
    if step.batch is not None and policy.batch == "digest":
        return await grouping.several()
    wanted = dict.fromkeys(target.sample for target in step.targets)
    criticised = [sample for sample in wanted if is_criticised(step, sample)]
    return Groups([grouping.single(number, sample) for number, sample in enumerate(criticised)])


def is_criticised(step: Step[TextGradient], sample: int | None) -> bool:
    """Tell whether anything was said of a sample in words."""
    return any(said.gradient.text for _, said in step.received[sample])


@dataclass(frozen=True)
class _Grouping:
    """A step to be divided."""

    step: Step[TextGradient]
    reads: Reads
    kind: Kind
    policy: Policy
    roots: Roots | None

    def single(self, number: int, sample: int | None) -> Group:
        """Return the group that is one sample."""

        def compose() -> Questions:
            shown = self._case(sample)
            case = fitted(shown, self._room - self._asked([(sample, shown)]))
            return questions(self.kind.template, case, sample, self._context([sample]))

        return Group(number, (sample,), self._depth([sample]), "", None, compose)

    async def several(self) -> Groups:
        """Return the groups of a batch: one, or about the square root of its number where that is too much for one."""
        cases: dict[int, Shown] = {}
        broken: dict[int, Error] = {}
        for sample in self._criticised:
            await _others_first(sample)
            try:
                cases[sample] = self._case(sample)
            except Refused as refused:
                broken[sample] = refused.error
        if not cases:
            return Groups((), broken)
        samples = list(cases)
        ranges = ranges_of(*await self._sizes(cases), self._room)
        return Groups(
            [
                self._group(number, len(ranges), {sample: cases[sample] for sample in samples[start:stop]})
                for number, (start, stop) in enumerate(ranges)
            ],
            broken,
        )

    async def _sizes(self, cases: Mapping[int, Shown]) -> tuple[list[int], int]:
        """Return how many tokens each sample takes in a prompt, and how many there are whichever it shows."""
        first = next(iter(cases.values()))
        common = size_of(first) - size_of(first.after(first))
        # what is longer than half a prompt is cut, not shown to fewer samples
        shared = min(common, self._room // 2) + self._asked([(None, first)])
        sizes = []
        for sample, case in cases.items():
            await _others_first(sample)
            sizes.append(size_of(case.after(first)) + self._asked([(sample, case)], shared=False))
        return sizes, shared

    def _group(self, number: int, count: int, cases: Mapping[int, Shown]) -> Group:
        told = "" if count == 1 else f"Part {number + 1} of {count}. "

        def compose() -> Questions:
            first = next(iter(cases.values()))
            repeated = tuple(case if case is first else case.after(first) for case in cases.values())
            shown = fitted(repeated, self._room - self._asked(cases.items()))
            tally = Tally(self.step.batch or 0, told + self._tally(len(cases)))
            listed = list(zip(cases, shown, strict=True))
            return questions_about_samples(self.kind.template, listed, tally, self._context(list(cases)))

        words = f"From {len(cases)} samples of a batch"
        part = None if count == 1 else number
        return Group(number, list(cases), self._depth(list(cases)), words, part, compose)

    def _asked(self, cases: Iterable[tuple[int | None, Shown]], *, shared: bool = True) -> int:
        """Return how many tokens the texts take that a question about these samples asks about, at most."""
        wanted = self.reads.asked
        sizes: dict[str, int] = {}
        common: dict[str, int] = {}
        for sample, case in cases:
            for text in case.texts:
                if text.path in wanted.get(None, ()):
                    common[text.path] = estimated(text.text)
                if sample is not None and text.path in wanted.get(sample, ()):
                    sizes[text.path] = sizes.get(text.path, 0) + estimated(text.text)
        every = [*sizes.values(), *(common.values() if shared else ())]
        return sum(every) if self.policy.calls == "per_operation" else max(every, default=0)

    def _tally(self, shown: int) -> str:
        """Say what became of every sample."""
        criticised, silent, rest = len(self._criticised), self._silent, self.step.batch or 0
        counts = [
            (shown, "shown here"),
            (criticised - shown, "shown elsewhere"),
            (silent, "had nothing to criticise"),
            (rest - criticised - silent, "had no answer, or nobody looked at it"),
        ]
        return "Of these samples, " + ", ".join(f"{count} {words}" for count, words in counts if count) + "."

    @cached_property
    def _criticised(self) -> Sequence[int]:
        return [sample for sample in range(self.step.batch or 0) if is_criticised(self.step, sample)]

    @cached_property
    def _silent(self) -> int:
        """How many samples were looked at, and nothing was found."""
        return sum(bool(self.step.received[at]) for at in range(self.step.batch or 0)) - len(self._criticised)

    @cached_property
    def _room(self) -> int:
        """How many tokens of a prompt are left for what is shown; the words around it take the rest."""
        context = self.policy.context_tokens if self.roots else 0
        return max(200, self.policy.prompt_tokens * 9 // 10 - 700 - context)

    @cached_property
    def _show(self) -> Callable[[int | None], Shown]:
        return self.kind.shows(self.step, self.reads)

    def _case(self, sample: int | None) -> Shown:
        try:
            return self._show(sample)
        except FailedItem as failed:
            raise invalid("graph", f"{failed}, but an answer to it is recorded; leave that out") from failed

    def _context(self, samples: Sequence[int | None]) -> Context | None:
        return self.roots.context(self.step, samples) if self.roots else None

    def _depth(self, samples: Sequence[int | None]) -> int:
        return 1 + depth_of(self.step, samples)


async def _others_first(sample: int) -> None:
    """Let other work go on now and then: a batch may have any number of samples."""
    if sample % _AT_A_TIME == 0:
        await asyncio.sleep(0)
