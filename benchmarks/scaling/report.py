"""Outcomes as rows of a table in Markdown, as docs/scaling.md shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from benchmarks.scaling.scenario import Scenario
from benchmarks.scaling.simulation import Outcome

HEAD = (
    "scenario",
    "jobs",
    "workers, mean",
    "at most",
    "wait p50, s",
    "p95",
    "p99",
    "longest queue",
    "slots in use",
    "worker-hours",
)


@dataclass(frozen=True)
class Run:
    name: str
    scenario: Scenario
    outcome: Outcome


def quantile(seconds: Sequence[float], share: float) -> float:
    """The least of them that so many do not exceed; 0 of none."""
    ordered = sorted(seconds)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


def mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds) if seconds else 0.0


def cells(run: Run) -> tuple[str, ...]:
    found = run.outcome
    slots = found.open_seconds * run.scenario.workers.concurrency
    return (
        run.name,
        f"{len(found.waits):,}",
        f"{found.worker_seconds / found.ended:.1f}" if found.ended else "0",
        str(found.most_workers),
        *(f"{quantile(found.waits, share):.2f}" for share in (0.5, 0.95, 0.99)),
        f"{found.longest_queue:,}",
        f"{found.busy_seconds / slots:.0%}" if slots else "0%",
        f"{found.worker_seconds / 3600:.1f}",
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(runs: Sequence[Run]) -> str:
    return table([HEAD, *(cells(run) for run in runs)])
