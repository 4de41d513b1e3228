"""From looks at workers to what happened in between. Counters begin anew with a worker; nothing here reads a clock."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backtalk.operate.scrape import Samples, Scraped, Series

_COUNTERS: Final = ("_total", "_bucket", "_count", "_sum")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All workers at one moment, in seconds of a clock that only goes forward."""

    at: float
    workers: tuple[Scraped, ...] = ()


def rates(looks: Sequence[Snapshot]) -> dict[str, Samples]:
    """Return what each worker of the last look counts in a second, since the first of the looks that has it.

    A worker that is seen for the first time has no rates yet.
    """
    if not looks:
        return {}
    *earlier, last = looks
    found: dict[str, Samples] = {}
    for one in last.workers:
        if one.problem is None and (known := _first(earlier, one.worker)):
            at, before = known
            seconds = last.at - at
            found[one.worker] = {
                series: value / seconds for series, value in grown(before, one.samples).items() if seconds > 0
            }
    return found


def _first(looks: Iterable[Snapshot], worker: str) -> tuple[float, Samples] | None:
    seen = (
        (look.at, one.samples)
        for look in looks
        for one in look.workers
        if one.worker == worker and one.problem is None
    )
    return next(seen, None)


def grown(before: Samples, after: Samples) -> dict[Series, float]:
    """Return by how much counters have grown; where any has shrunk the worker was restarted, and all began at 0."""
    counted = {series: value for series, value in after.items() if _counts(series)}
    old = {series: value for series, value in before.items() if _counts(series)}
    restarted = any(counted.get(series, 0.0) < value for series, value in old.items())
    return (
        counted if restarted else {series: value - old.get(series, 0.0) for series, value in counted.items()}
    )


def _counts(series: Series) -> bool:
    return series[0].endswith(_COUNTERS)


def merged(several: Iterable[Samples]) -> dict[Series, float]:
    """Return the sum of what several workers said."""
    total: dict[Series, float] = defaultdict(float)
    for samples in several:
        for series, value in samples.items():
            total[series] += value
    return dict(total)


def summed(samples: Samples, name: str, *by: str, **where: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric, added up for each combination of the labels `by`; `where` picks some of them."""
    total: dict[tuple[str, ...], float] = defaultdict(float)
    for (known, labels), value in samples.items():
        if known == name:
            told = dict(labels)
            if all(told.get(label) == wanted for label, wanted in where.items()):
                total[tuple(told.get(label, "") for label in by)] += value
    return dict(total)


def total(samples: Samples, name: str, **where: str) -> float:
    return sum(summed(samples, name, **where).values())


def buckets(samples: Samples, name: str, **where: str) -> dict[float, float]:
    """Return a histogram as how many were at most so many seconds."""
    found = summed(samples, f"{name}_bucket", "le", **where)
    return {float(le): count for (le,), count in found.items() if le}


def quantile(histogram: Mapping[float, float], share: float) -> float | None:
    """Return the value that a share of all does not exceed, evenly spread within a bucket, as Prometheus reckons.

    None where nothing was counted. Beyond the last finite bound it is that bound.
    """
    bounds = sorted(histogram)
    if not bounds or not math.isinf(bounds[-1]) or histogram[bounds[-1]] <= 0:
        return None
    wanted = share * histogram[bounds[-1]]
    below, under = 0.0, 0.0
    for bound in bounds:
        if histogram[bound] >= wanted and histogram[bound] > under:
            if math.isinf(bound):
                return below
            return below + (bound - below) * (wanted - under) / (histogram[bound] - under)
        below, under = bound, histogram[bound]
    return None
