"""Figures of what happened lately, and where nothing did, of everything since the workers were started."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from backtalk.operate.rates import buckets, quantile
from backtalk.operate.scrape import Samples

Measure: TypeAlias = Callable[[Samples], float]


def share(pace: Samples | None, samples: Samples, *, part: Measure, whole: Measure) -> float | None:
    """Return which share of a whole a part is, None where there is none yet."""
    for told in (pace, samples):
        if told and (all_ := whole(told)):
            return part(told) / all_
    return None


def latency(pace: Samples | None, samples: Samples, of: float, name: str, **where: str) -> float | None:
    """Return a quantile of a histogram in its unit, None where nothing was measured yet."""
    lately = quantile(buckets(pace, name, **where), of) if pace else None
    return quantile(buckets(samples, name, **where), of) if lately is None else lately
