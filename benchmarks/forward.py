"""The forward worker under load beside the bare consumers: CPU per job, jobs per second, resident memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from benchmarks.broker import Stage
from benchmarks.contenders import BACKTALK, DEFAULTS, FAST, ORDER, Contender
from benchmarks.load import Load, Window, measure
from benchmarks.table import Figures, Limit, Row

ROUNDS = 3
RESIDENT_MIB = 110


@dataclass
class Compared:
    """What the three did in all rounds."""

    windows: dict[str, list[Window]] = field(default_factory=lambda: {each.name: [] for each in ORDER})

    def medians(self, figure: Callable[[Window], float]) -> Figures:
        return Figures(*(self.median(each, figure) for each in (BACKTALK, FAST, DEFAULTS)))

    def median(self, contender: Contender, figure: Callable[[Window], float]) -> float:
        return median(figure(window) for window in self.windows[contender.name])


async def compared(stage: Stage, load: Load) -> Compared:
    found = Compared()
    for _ in range(ROUNDS):
        for contender in ORDER:
            found.windows[contender.name].append(await measure(stage, contender, load))
    return found


async def cpu(stage: Stage) -> list[Row]:
    load = Load(latency=0, in_flight=100, jobs=3000)
    figures = (await compared(stage, load)).medians(lambda window: window.cpu_per_thousand)
    limits = [Limit(figures.to_fast, 1.3, unit=" x"), Limit(figures.to_defaults, 0.55, unit=" x")]
    return [figures.row("forward, latency 0, 100 in flight: CPU-s per 1,000 jobs", 2, limits)]


async def at_50_ms(stage: Stage) -> list[Row]:
    return await throughput(stage, Load(latency=0.05, in_flight=100, jobs=4000))


async def at_500_ms(stage: Stage) -> list[Row]:
    return await throughput(stage, Load(latency=0.5, in_flight=500, jobs=3000))


async def throughput(stage: Stage, load: Load) -> list[Row]:
    found = await compared(stage, load)
    name = f"forward, {load.latency * 1000:.0f} ms, {load.in_flight} in flight"
    return [rate(name, found), resident(name, found)]


def rate(name: str, found: Compared) -> Row:
    figures = found.medians(lambda window: window.jobs_per_second)
    fast, defaults = figures.to_fast, figures.to_defaults
    limits = [Limit(fast, 0.85, at_least=True, unit=" x"), Limit(defaults, 2, at_least=True, unit=" x")]
    return figures.row(f"{name}: jobs/s", 0, limits)


def resident(name: str, found: Compared) -> Row:
    figures = found.medians(lambda window: window.resident_mib)
    return figures.row(f"{name}: resident MiB", 0, [Limit(figures.backtalk, RESIDENT_MIB, unit=" MiB")])
