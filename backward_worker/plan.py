"""What a backward pass has to do, before any of it is done: which operations run, for which inputs and samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backtalk.wire.errors import Code, Refused
from backtalk.wire.graph import Graph
from backtalk.wire.position import Position


@dataclass(frozen=True, slots=True)
class Target:
    """An input whose gradient is wanted, for one sample of the operation, which reads that item of the input.

    `sample` None is the only one of a scalar operation, or all of a batch together.
    """

    position: Position
    sample: int | None
    item: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Which operations run and which of their inputs are wanted, by tape index.

    `waits` is how many contributions an operation waits for: one for each wanted read of its outputs and sample.
    """

    targets: Mapping[int, tuple[Target, ...]]
    waits: Mapping[int, int]


def plan(graph: Graph, seeded: Collection[str], wanted: Collection[str], *, digest: bool = False) -> Plan:
    """Return what lies between the seeded and the wanted variables, in two linear scans.

    With `digest`, what the samples of an operation share is wanted of all of them at once.
    """
    _check_complete(graph, seeded, wanted)
    leads = _leading_to(graph, wanted)
    needed = set(seeded)
    targets: dict[int, tuple[Target, ...]] = {}
    for at in range(len(graph.operations) - 1, -1, -1):
        if needed.isdisjoint(graph.operations[at].outputs):
            continue
        reads = [read for read in graph.index.positions[at] if read.variable in leads]
        if reads:
            together = {read.variable for read in reads if digest and _is_shared(read, graph)}
            targets[at] = tuple(_targets(reads, graph.index.batches[at], together))
            needed.update(read.variable for read in reads)
    waits = dict.fromkeys(targets, 0)
    for wanted_reads in targets.values():
        for target in wanted_reads:
            if (writer := graph.index.writers.get(target.position.variable)) in waits:
                waits[writer] += 1
    return Plan(targets, waits)


def _is_shared(read: Position, graph: Graph) -> bool:
    """Tell whether every sample reads the same; what takes batches apart reads each item once."""
    return read.length is None and not isinstance(graph.index.variables[read.variable].data, tuple)


def _targets(reads: Iterable[Position], batch: int | None, together: Collection[str]) -> Iterator[Target]:
    """Yield the reads sample by sample; an item of a list of ids is read by its own sample only."""
    for read in reads:
        if batch is None or read.sample is not None:
            yield Target(read, read.sample, read.sample)
        elif read.variable in together:
            yield Target(read, None, None)
        else:
            count = batch if read.length is None else read.length
            yield from (Target(read, read.first + at, read.item + at) for at in range(count))


def _leading_to(graph: Graph, wanted: Collection[str]) -> set[str]:
    """Return the wanted variables and all that were computed from one, whether they require a gradient or not."""
    leads = set(wanted)
    for at, operation in enumerate(graph.operations):
        if any(read.variable in leads for read in graph.index.positions[at]):
            leads.update(operation.outputs)
    return leads


def _check_complete(graph: Graph, seeded: Collection[str], wanted: Collection[str]) -> None:
    """Refuse a way that leads out of the graph, unless it ends there on purpose or nothing wanted can lie behind."""
    reached = _reached(graph, seeded)
    exits = [
        variable
        for variable in graph.variables
        if variable.producer is not None
        and variable.requires_grad
        and variable.id in reached
        and variable.id not in graph.index.writers
        and variable.id not in wanted
    ]
    # what was computed from an exit cannot lie behind it as well
    behind = _computed_from(graph, [variable.id for variable in exits])
    for at, variable in enumerate(exits):
        if not wanted or not all(behind.get(id, 0) >> at & 1 for id in wanted):
            raise Refused(
                Code.INCOMPLETE_GRAPH,
                f"graph: variable {variable.id!r} was written by operation {variable.producer!r}, which is not in "
                "the graph; join the fragment that holds it, or name the variable in `wrt` to stop there",
                variable=variable.id,
                operation=variable.producer,
            )


def _reached(graph: Graph, seeded: Collection[str]) -> set[str]:
    """Return everything that the seeded variables were computed from, themselves included."""
    reached = set(seeded)
    for at in range(len(graph.operations) - 1, -1, -1):
        if not reached.isdisjoint(graph.operations[at].outputs):
            reached.update(read.variable for read in graph.index.positions[at])
    return reached


def _computed_from(graph: Graph, sources: Sequence[str]) -> dict[str, int]:
    """Return for each variable, as bits, which of the sources it was computed from."""
    found = {id: 1 << at for at, id in enumerate(sources)}
    if not found:
        return found
    for at, operation in enumerate(graph.operations):
        bits = 0
        for read in graph.index.positions[at]:
            bits |= found.get(read.variable, 0)
        if bits:
            found.update(dict.fromkeys(operation.outputs, bits))
    return found
