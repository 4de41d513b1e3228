"""Reverse mode over a tape: the chain rule, and no model.

Generic in the gradient: text in production, floats in tests, where it agrees with finite differences. Every
operation whose consumers are done runs at once; what comes out does not depend on the order of arrival.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeAlias, TypeVar

from backtalk.wire.errors import Code, Error, Refused
from backtalk.wire.graph import Graph, Operation, Position

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
class Target:
    """An input whose gradient is wanted, for one sample of the operation."""

    position: Position
    sample: int | None


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

    Returns one gradient or error for each target, in their order.
    """

    def __call__(self, step: Step[G], /) -> Awaitable[Sequence[G | Error]]: ...


Rules: TypeAlias = Mapping[str, Rule[G]]
Seeds: TypeAlias = Mapping[str, Sequence[Contribution[G]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which operations run, which of their inputs are wanted, and who waits for whom; all by tape index."""

    targets: Mapping[int, tuple[Position, ...]]
    producers: Mapping[int, frozenset[int]]
    consumers: Mapping[int, int]

    @property
    def first(self) -> list[int]:
        return [at for at in self.targets if not self.consumers[at]]


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


def plan(graph: Graph, seeded: Collection[str], wanted: Collection[str]) -> Plan:
    """Return what lies between the seeded and the wanted variables, in two linear scans."""
    _check_complete(graph, seeded, wanted)
    leads = _leading_to(graph, wanted)
    needed = set(seeded)
    targets: dict[int, tuple[Position, ...]] = {}
    for at in range(len(graph.operations) - 1, -1, -1):
        if needed.isdisjoint(graph.operations[at].outputs):
            continue
        reads = tuple(read for read in graph.index.positions[at] if read.variable in leads)
        if reads:
            targets[at] = reads
            needed.update(read.variable for read in reads)
    producers = {
        at: frozenset(_producers(graph, (read.variable for read in reads)) & targets.keys())
        for at, reads in targets.items()
    }
    consumers = dict.fromkeys(targets, 0)
    for sources in producers.values():
        for source in sources:
            consumers[source] += 1
    return Plan(targets, producers, consumers)


def _leading_to(graph: Graph, wanted: Collection[str]) -> set[str]:
    """Return the wanted variables and all that were computed from one, whether they require a gradient or not."""
    leads = set(wanted)
    for at, operation in enumerate(graph.operations):
        if any(read.variable in leads for read in graph.index.positions[at]):
            leads.update(operation.outputs)
    return leads


def _producers(graph: Graph, variables: Iterable[str]) -> set[int]:
    writers = graph.index.writers
    return {writers[variable] for variable in variables if variable in writers}


def _check_complete(graph: Graph, seeded: Collection[str], wanted: Collection[str]) -> None:
    """Refuse a way that ends at a variable whose producer the graph does not hold, unless it ends there on purpose."""
    reached = set(seeded)
    for at in range(len(graph.operations) - 1, -1, -1):
        if not reached.isdisjoint(graph.operations[at].outputs):
            reached.update(read.variable for read in graph.index.positions[at])
    for variable in graph.variables:
        outside = variable.producer is not None and variable.id not in graph.index.writers
        if outside and variable.requires_grad and variable.id in reached and variable.id not in wanted:
            raise Refused(
                Code.INCOMPLETE_GRAPH,
                f"graph: variable {variable.id!r} was written by operation {variable.producer!r}, which is not in "
                "the graph; join the fragment that holds it, or name the variable in `wrt` to stop there",
                variable=variable.id,
                operation=variable.producer,
            )


@dataclass(slots=True)
class _Pass(Generic[G]):
    """One pass in progress: what has arrived, by variable and by the tape index of who said it."""

    graph: Graph
    seeds: Seeds[G]
    plan: Plan
    rules: Rules[G]
    waiting: dict[int, int] = field(init=False)
    arrived: dict[str, dict[int, list[Contribution[G]]]] = field(default_factory=dict)
    missing: dict[str, set[int | None]] = field(default_factory=dict)
    failed: dict[int, list[Failed]] = field(default_factory=dict)

    async def run(self) -> None:
        self.waiting = dict(self.plan.consumers)
        async with asyncio.TaskGroup() as group:
            for at in self.plan.first:
                group.create_task(self._back_through(at, group))

    async def _back_through(self, at: int, group: asyncio.TaskGroup) -> None:
        step = self._step(at)
        if step.targets:
            self._keep(at, step, await self.rules[step.operation.op](step))
        for source in self.plan.producers[at]:
            self.waiting[source] -= 1
            if not self.waiting[source]:
                group.create_task(self._back_through(source, group))

    def _step(self, at: int) -> Step[G]:
        operation = self.graph.operations[at]
        batch = self.graph.index.batches[at]
        samples = (None,) if batch is None else range(batch)
        came = [(output, said) for output in operation.outputs for said in self._contributions(output)]
        received = {sample: self._received(came, sample) for sample in samples}
        targets = []
        for read in self.plan.targets[at]:
            for sample in samples if read.sample is None else (read.sample,):
                if received[sample]:
                    targets.append(Target(read, sample))
                elif self._is_missing(operation, sample):
                    self.missing.setdefault(read.variable, set()).add(sample)
        return Step(self.graph, operation, tuple(targets), received)

    def _received(
        self, came: Sequence[tuple[str, Contribution[G]]], sample: int | None
    ) -> tuple[tuple[str, Contribution[G]], ...]:
        """Return what was said of one sample; an item that failed in the forward pass has nothing to criticise."""
        variables = self.graph.index.variables
        return tuple(
            (output, said)
            for output, said in came
            if sample is None
            or (said.sample in (None, sample) and variables[output].value(sample) is not None)
        )

    def _keep(self, at: int, step: Step[G], outcomes: Sequence[G | Error]) -> None:
        operation = step.operation
        for target, outcome in zip(step.targets, outcomes, strict=True):
            path, _, variable = target.position
            if isinstance(outcome, Error):
                self.failed.setdefault(at, []).append(Failed(variable, operation.id, target.sample, outcome))
                self.missing.setdefault(variable, set()).add(target.sample)
                continue
            said = [contribution for _, contribution in step.received[target.sample]]
            contribution = Contribution(
                gradient=outcome,
                operation=operation.id,
                input=path,
                sample=target.sample,
                feedback=_union(contribution.feedback for contribution in said),
                incomplete=self._is_missing(operation, target.sample)
                or any(contribution.incomplete for contribution in said),
            )
            self.arrived.setdefault(variable, {}).setdefault(at, []).append(contribution)

    def _is_missing(self, operation: Operation, sample: int | None) -> bool:
        """Tell whether something failed that should have been said of a sample of an operation's outputs."""
        gaps = [self.missing[output] for output in operation.outputs if output in self.missing]
        return any(sample is None or not gap.isdisjoint((None, sample)) for gap in gaps)

    def _contributions(self, variable: str) -> list[Contribution[G]]:
        """Return what was said of a variable: feedback first, then its readers in tape order."""
        by_reader = self.arrived.get(variable, {})
        return [*self.seeds.get(variable, ()), *(said for at in sorted(by_reader) for said in by_reader[at])]

    def result(self, wanted: Iterable[str]) -> Gradients[G]:
        return Gradients(
            {variable: tuple(self._contributions(variable)) for variable in wanted},
            tuple(failure for at in sorted(self.failed) for failure in self.failed[at]),
        )


def _union(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id for group in groups for id in group))
