"""Reverse mode over a tape: the chain rule, and no model.

Generic in the gradient: text in production, floats in tests, where it agrees with finite differences. An
operation runs as soon as its outputs have heard all they will; nothing depends on the order of arrival.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from backtalk.wire.errors import Error
from backtalk.wire.evaluations import Evaluation
from backtalk.wire.graph import Graph, Operation
from backward_worker.plan import Plan, Target, plan

G = TypeVar("G")


@dataclass(frozen=True, slots=True)
class Contribution(Generic[G]):
    """What one reader of a variable, or the feedback itself (`operation` None), says about it.

    `sample` is the batch item it concerns, None for all; `feedback` the ids of the items behind it; `incomplete`
    that something which should have gone into it failed.
    """

    gradient: G
    operation: str | None = None
    input: str | None = None
    sample: int | None = None
    feedback: tuple[str, ...] = ()
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Step(Generic[G]):
    """One operation to go back through: what came in for each of its samples, and what is wanted of it."""

    graph: Graph
    operation: Operation
    targets: tuple[Target, ...]
    received: Mapping[int | None, tuple[tuple[str, Contribution[G]], ...]]


@dataclass(frozen=True, slots=True)
class Failed:
    """A gradient that could not be computed."""

    variable: str
    operation: str
    sample: int | None
    error: Error


class Rule(Protocol[G]):
    """How one kind of operation turns gradients of its outputs into gradients of its inputs.

    Returns what to await for each target, in their order: each is passed on as soon as it is there.
    """

    def __call__(self, step: Step[G], /) -> Sequence[Awaitable[G | Error]]: ...


Rules: TypeAlias = Mapping[str, Rule[G]]
Seeds: TypeAlias = Mapping[str, Sequence[Contribution[G]]]


@dataclass(frozen=True, slots=True)
class Gradients(Generic[G]):
    """For every wanted variable its contributions, in tape order, then position, then sample; and what failed."""

    contributions: Mapping[str, tuple[Contribution[G], ...]]
    failures: tuple[Failed, ...]


async def backward(graph: Graph, seeds: Seeds[G], wanted: Collection[str], rules: Rules[G]) -> Gradients[G]:
    """Return the gradients of the wanted variables under the seeds.

    Raises Refused with code `incomplete_graph` where the way leads out of the graph.
    """
    tape = _Pass(graph, seeds, plan(graph, seeds.keys(), wanted), rules)
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
                self._miss(target)
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
        awaitable: Awaitable[G | Error],
        group: asyncio.TaskGroup,
    ) -> None:
        variable = target.position.variable
        outcome = await awaitable
        if isinstance(outcome, Error):
            self.failed[place] = Failed(variable, step.operation.id, target.item, outcome)
            self._miss(target)
        else:
            self.arrived.setdefault(variable, {})[place] = self._contribution(step, target, outcome)
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
        operation = self.graph.operations[at]
        came = [(output, said) for output in operation.outputs for said in self._contributions(output)]
        asked = self.plan.targets[at]
        received = {
            sample: self._received(operation, came, sample) for sample in {target.sample for target in asked}
        }
        targets = tuple(target for target in asked if received[target.sample])
        return Step(self.graph, operation, targets, received)

    def _received(
        self, operation: Operation, came: Sequence[tuple[str, Contribution[G]]], sample: int | None
    ) -> tuple[tuple[str, Contribution[G]], ...]:
        """Return what was said of one sample; an item that failed in the forward pass has nothing to criticise.

        An evaluation answers for every sample itself: one that was not scored may have deserved criticism.
        """
        if sample is None:
            return tuple(came)
        variables = self.graph.index.variables
        return tuple(
            (output, said)
            for output, said in came
            if self._concerns(output, said.sample, sample)
            and (variables[output].value(sample) is not None or isinstance(operation, Evaluation))
        )

    def _concerns(self, output: str, item: int | None, sample: int) -> bool:
        """Tell whether what is said of an item of an output is said of a sample; one value concerns every sample."""
        return item in (None, sample) or not self._is_batch(output)

    def _is_batch(self, variable: str) -> bool:
        return isinstance(self.graph.index.variables[variable].data, tuple)

    def _contribution(self, step: Step[G], target: Target, gradient: G) -> Contribution[G]:
        said = [contribution for _, contribution in step.received[target.sample]]
        return Contribution(
            gradient=gradient,
            operation=step.operation.id,
            input=target.position.path,
            sample=target.item,
            feedback=_union(contribution.feedback for contribution in said),
            incomplete=self._is_missing(step.operation, target.sample)
            or any(contribution.incomplete for contribution in said),
        )

    def _miss(self, target: Target) -> None:
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
        )


def _union(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id for group in groups for id in group))
