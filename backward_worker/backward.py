"""Reverse mode over a tape: the chain rule, and no model.

Generic in the gradient: text in production, floats in tests, where it agrees with finite differences. An
operation runs as soon as its outputs have heard all they will; nothing depends on the order of arrival.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from backtalk.wire.errors import Error
from backtalk.wire.evaluations import Evaluation
from backtalk.wire.graph import Graph, Operation
from backward_worker.plan import Plan, Target, plan
from backward_worker.step import (
    Contribution,
    G,
    Outcome,
    Partly,
    Received,
    Rules,
    Seeds,
    Step,
    error_of,
    feedback_of,
    gradient_of,
)


@dataclass(frozen=True, slots=True)
class Failed:
    """A gradient that could not be computed."""

    variable: str
    operation: str | None
    sample: int | None
    error: Error


@dataclass(frozen=True, slots=True)
class Gradients(Generic[G]):
    """For every wanted variable its contributions, in tape order, then position, then sample; and what failed.

    `missing` are the variables and operations that should have contributed, and did not, here or further on.
    """

    contributions: Mapping[str, tuple[Contribution[G], ...]]
    failures: tuple[Failed, ...]
    missing: frozenset[tuple[str, str]] = frozenset()


async def backward(
    graph: Graph, seeds: Seeds[G], wanted: Collection[str], rules: Rules[G], *, digest: bool = False
) -> Gradients[G]:
    """Return the gradients of the wanted variables under the seeds, with `digest` one for all samples where they share.

    Raises Refused with code `incomplete_graph` where the way leads out of the graph.
    """
    tape = _Pass(graph, seeds, plan(graph, seeds.keys(), wanted, digest=digest), rules)
    await tape.run()
    return tape.result(wanted)


@dataclass(slots=True)
class _Pass(Generic[G]):
    """One pass in progress: what has arrived, by variable, and by the tape index and target of who said it."""

    graph: Graph
    seeds: Seeds[G]
    plan: Plan
    rules: Rules[G]
    waits: dict[int, int] = field(init=False)
    ready: deque[int] = field(default_factory=deque)
    arrived: dict[str, dict[tuple[int, int], Contribution[G]]] = field(default_factory=dict)
    missing: dict[str, set[int | None]] = field(default_factory=dict)
    failed: dict[tuple[int, int], Failed] = field(default_factory=dict)
    lost: set[tuple[str, str]] = field(default_factory=set)

    async def run(self) -> None:
        self.waits = dict(self.plan.waits)
        self.ready.extend(at for at, count in self.waits.items() if not count)
        async with asyncio.TaskGroup() as group:
            await self._start_ready(group)

    async def _start_ready(self, group: asyncio.TaskGroup) -> None:
        while self.ready:
            await self._back_through(self.ready.popleft(), group)

    async def _back_through(self, at: int, group: asyncio.TaskGroup) -> None:
        """Start on all targets of an operation whose outputs have heard everything; first on those others wait for."""
        step = self._step(at)
        awaitables = iter(self.rules[step.operation.op](step) if step.targets else ())
        urgent: list[Coroutine[Any, Any, None]] = []
        patient: list[Coroutine[Any, Any, None]] = []
        for number, target in enumerate(self.plan.targets[at]):
            variable = target.position.variable
            if step.received[target.sample]:
                resolving = self._resolve((at, number), step, target, next(awaitables), group)
                awaited = self.graph.index.writers.get(variable) in self.waits
                (urgent if awaited else patient).append(resolving)
                continue
            if self._is_missing(step.operation, target.sample):
                self._miss(step, target)
            self._heard(variable)
        for resolving in urgent + patient:
            group.create_task(resolving)
            # sockets are written to between two rounds of tasks: in a single round the first call would leave only
            # when the last one is composed
            await asyncio.sleep(0)

    async def _resolve(
        self,
        place: tuple[int, int],
        step: Step[G],
        target: Target,
        awaitable: Awaitable[Outcome[G]],
        group: asyncio.TaskGroup,
    ) -> None:
        variable = target.position.variable
        outcome = await awaitable
        if (error := error_of(outcome)) is not None:
            self.failed[place] = Failed(variable, step.operation.id, target.item, error)
        if isinstance(outcome, Error):
            self._miss(step, target)
        else:
            contribution = self._contribution(step, target, outcome)
            self.arrived.setdefault(variable, {})[place] = contribution
        self._heard(variable)
        await self._start_ready(group)

    def _heard(self, variable: str) -> None:
        """Count one contribution less to wait for; after the last one the operation that wrote the variable runs."""
        writer = self.graph.index.writers.get(variable)
        if writer in self.waits:
            self.waits[writer] -= 1
            if not self.waits[writer]:
                self.ready.append(writer)

    def _step(self, at: int) -> Step[G]:
        operation, batch = self.graph.operations[at], self.graph.index.batches[at]
        came = [(output, said) for output in operation.outputs for said in self._contributions(output)]
        asked = self.plan.targets[at]
        received: dict[int | None, Received[G]] = {None: tuple(came)}
        if batch is not None:
            received = self._received(operation, came, range(batch))
        targets = tuple(target for target in asked if received[target.sample])
        return Step(self.graph, operation, targets, received, batch)

    def _received(
        self,
        operation: Operation,
        came: Sequence[tuple[str, Contribution[G]]],
        samples: Sequence[int],
    ) -> dict[int | None, Received[G]]:
        """Return what was said of each sample, and of any; one that failed in the forward pass has nothing to criticise.

        An evaluation answers for every sample itself: one that was not scored may have deserved criticism.
        """
        variables = self.graph.index.variables
        found: dict[int | None, list[tuple[str, Contribution[G]]]] = {sample: [] for sample in samples}
        every: list[tuple[str, Contribution[G]]] = []
        for output, said in came:
            # walking over all samples for each contribution would take the square of their number
            named = (
                (said.sample,) if said.sample is not None and self._names_sample(output, said) else samples
            )
            heard = [
                sample
                for sample in named
                if isinstance(operation, Evaluation) or variables[output].value(sample) is not None
            ]
            for sample in heard:
                found[sample].append((output, said))
            if heard:
                every.append((output, said))
        return {**{sample: tuple(said) for sample, said in found.items()}, None: tuple(every)}

    def _names_sample(self, output: str, said: Contribution[G]) -> bool:
        """Tell whether an item that is named is a sample of the writer: one value is read by many, and has one writer.

        Feedback names the sample of an evaluation whose score is one for all.
        """
        return said.operation is None or self._is_batch(output)

    def _concerns(self, output: str, item: int | None, sample: int) -> bool:
        """Tell whether what is said of an item of an output is said of a sample; one value concerns every sample."""
        return item in (None, sample) or not self._is_batch(output)

    def _is_batch(self, variable: str) -> bool:
        return isinstance(self.graph.index.variables[variable].data, tuple)

    def _contribution(self, step: Step[G], target: Target, outcome: G | Partly[G]) -> Contribution[G]:
        said = [contribution for _, contribution in step.received[target.sample]]
        partly = isinstance(outcome, Partly) and outcome.incomplete
        return Contribution(
            gradient=gradient_of(outcome),
            operation=step.operation.id,
            input=target.position.path,
            sample=target.item,
            feedback=feedback_of(said),
            incomplete=partly
            or self._is_missing(step.operation, target.sample)
            or any(contribution.incomplete for contribution in said),
        )

    def _miss(self, step: Step[G], target: Target) -> None:
        self.lost.add((target.position.variable, step.operation.id))
        self.missing.setdefault(target.position.variable, set()).add(target.item)

    def _is_missing(self, operation: Operation, sample: int | None) -> bool:
        """Tell whether something failed that should have been said of a sample of an operation's outputs."""
        return any(
            sample is None or any(self._concerns(output, item, sample) for item in self.missing[output])
            for output in operation.outputs
            if output in self.missing
        )

    def _contributions(self, variable: str) -> list[Contribution[G]]:
        """Return what was said of a variable: feedback first, then its readers in tape order."""
        arrived = self.arrived.get(variable, {})
        return [*self.seeds.get(variable, ()), *(arrived[place] for place in sorted(arrived))]

    def result(self, wanted: Iterable[str]) -> Gradients[G]:
        return Gradients(
            {variable: tuple(self._contributions(variable)) for variable in wanted},
            tuple(self.failed[place] for place in sorted(self.failed)),
            frozenset(self.lost),
        )
