"""How a step is asked about: which samples go into one question, which of its inputs, and what comes of the replies.

A group is what one prompt shows: a single sample, or with `digest` as many as fit. Of a group, each input is asked about
by itself, or all of them at once. What samples share is asked of every group, and merged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TypeAlias

from backtalk.wire.errors import Error
from backtalk.wire.policy import Policy
from backward_worker.ask import Asker, Place, Question
from backward_worker.compose import Part, Subject
from backward_worker.context import Roots
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.groups import Group, Groups, Kind, groups_of
from backward_worker.merge import Merger
from backward_worker.once import Once
from backward_worker.plan import Target
from backward_worker.reads import Reads
from backward_worker.step import Outcome, Partly, Step, gradient_of

Answer: TypeAlias = TextGradient | Error
Answers: TypeAlias = dict[Subject, Answer]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the questions of one message have in common: who answers them, and the sender's wishes."""

    asker: Asker
    policy: Policy = field(default_factory=Policy)
    roots: Roots | None = None
    # whether gradients carry what they go back to, and how many questions it took
    traces: bool = False


@dataclass(frozen=True)
class Inquiry:
    """The questions about one step."""

    step: Step[TextGradient]
    desk: Desk
    kind: Kind
    _asked: dict[tuple[int, str | None], Once[Answers]] = field(default_factory=dict)

    def outcomes(self) -> list[Awaitable[Outcome[TextGradient]]]:
        """Return what to await for each target of the step, in their order."""
        return [self._outcome(target) for target in self.step.targets]

    async def _outcome(self, target: Target) -> Outcome[TextGradient]:
        found = await self._groups.get()
        if target.sample is None:
            outcome = await self._of_all(target, found)
            return _partly(outcome, next(iter(found.broken.values()))) if found.broken else outcome
        if target.sample in found.broken:
            return found.broken[target.sample]
        group = found.showing.get(target.sample)
        return EMPTY if group is None else await self._answer(group, target)

    async def _of_all(self, target: Target, found: Groups) -> Outcome[TextGradient]:
        """Return what all groups say about what they share."""
        groups = found.groups
        if not groups:
            return next(iter(found.broken.values()), EMPTY)
        if len(groups) == 1:
            return await self._answer(groups[0], target)
        return await self._merged(
            target, groups, await asyncio.gather(*(self._answer(group, target) for group in groups))
        )

    @cached_property
    def _groups(self) -> Once[Groups]:
        return Once(partial(groups_of, self.step, self._reads, self.kind, self.desk.policy, self.desk.roots))

    @cached_property
    def _reads(self) -> Reads:
        return Reads.of(self.step)

    async def _answer(self, group: Group, target: Target) -> Answer:
        """Return what the question says that a target is part of; the first that needs it asks it."""
        path = None if self.desk.policy.calls == "per_operation" else target.position.path
        subject, key = Subject(target.position.path, target.sample), (group.number, path)
        if key not in self._asked:
            subjects = self._subjects(group, path)
            if len(subjects) == 1:
                return await self._about(group, subject)
            self._asked[key] = Once(partial(self._answers, group, subjects))
        return (await self._asked[key].get())[subject]

    def _subjects(self, group: Group, path: str | None) -> Sequence[Subject]:
        """Return what one question is about: the targets in a group, of one position or of all."""
        return [
            Subject(one, sample)
            for sample in dict.fromkeys((None, *group.samples))
            for one in self._paths(sample, path)
        ]

    def _paths(self, sample: int | None, path: str | None) -> Collection[str]:
        wanted = self._reads.asked.get(sample, ())
        if path is None:
            return wanted
        return (path,) if path in wanted else ()

    async def _answers(self, group: Group, subjects: Sequence[Subject]) -> Answers:
        """Ask about some texts at once; what the reply lacks is asked about by itself."""
        found = await self.desk.asker.map(self._question(group, subjects), len(subjects))
        if isinstance(found, Error):
            return dict.fromkeys(subjects, found)
        answers: Answers = {
            subject: replace(one, depth=group.depth)
            for subject, one in zip(subjects, found, strict=True)
            if one is not None
        }
        lacking = [subject for subject in subjects if subject not in answers]
        alone = await asyncio.gather(*(self._about(group, subject) for subject in lacking))
        return answers | dict(zip(lacking, alone, strict=True))

    async def _about(self, group: Group, subject: Subject) -> Answer:
        answer = await self.desk.asker.text(self._question(group, [subject]))
        return (
            replace(answer, depth=group.depth) if isinstance(answer, TextGradient) and answer.text else answer
        )

    def _question(self, group: Group, subjects: Sequence[Subject]) -> Question:
        samples = {subject.sample for subject in subjects}
        place = Place(
            "ask",
            self.step.operation.id,
            tuple(dict.fromkeys(subject.path for subject in subjects)),
            samples.pop() if len(samples) == 1 else None,
            group.part,
        )
        return Question(place, self.kind.own, group.depth, lambda: group.questions.about(subjects))

    async def _merged(
        self, target: Target, groups: Sequence[Group], answers: Sequence[Answer]
    ) -> Outcome[TextGradient]:
        """Return one gradient of what all groups say; what failed is missing from it."""
        failed = next((answer for answer in answers if isinstance(answer, Error)), None)
        parts = [
            Part(group.words, answer.text)
            for group, answer in zip(groups, answers, strict=True)
            if isinstance(answer, TextGradient) and answer.text
        ]
        if failed is not None and all(isinstance(answer, Error) for answer in answers):
            return failed
        text = groups[0].questions.texts[Subject(target.position.path, target.sample)]
        place = Place("merge", self.step.operation.id, (target.position.path,), target.sample)
        merger = Merger(self.desk.asker, self.kind.own, place, text.role, text.text, self.desk.policy)
        merged = await merger.merge(parts, depth=1 + max(group.depth for group in groups))
        return merged if failed is None else _partly(merged, failed)


def _partly(outcome: Outcome[TextGradient], error: Error) -> Outcome[TextGradient]:
    """Return a gradient from which what failed is missing."""
    if isinstance(outcome, Error):
        return outcome
    return Partly(gradient_of(outcome), error)
