"""When jobs come: a Poisson process whose rate changes, by thinning one of the highest rate."""

import math
from collections.abc import Iterator
from random import Random

from benchmarks.scaling.scenario import Load

DAY_SECONDS = 86400.0


def factor(load: Load, at: float) -> float:
    """The rate at a time, as a multiple of the quiet one."""
    if load.shape == "bursts":
        return load.peak if at % load.every_seconds < load.burst_seconds else 1.0
    if load.shape == "day":
        risen = (1 - math.cos(2 * math.pi * at / DAY_SECONDS)) / 2
        return 1 + (load.peak - 1) * risen
    return 1.0


def arrivals(load: Load, random: Random) -> Iterator[float]:
    """Seconds from the start, rising."""
    highest = 1.0 if load.shape == "steady" else load.peak
    at = 0.0
    while True:
        at += random.expovariate(load.per_second * highest)
        if at >= load.seconds:
            return
        if highest == 1.0 or random.random() * highest < factor(load, at):
            yield at
