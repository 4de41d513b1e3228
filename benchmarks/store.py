"""What the result store costs a forward worker: the CPU of its jobs with a Redis beside it, and without."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import median

from backtalk.local.redis_server import PrivateRedis
from benchmarks.broker import Stage
from benchmarks.contenders import BACKTALK
from benchmarks.load import Load, Window, measure
from benchmarks.table import Limit, Row, judged

ROUNDS = 3
LOAD = Load(latency=0, in_flight=100, jobs=3000)
STORING = replace(BACKTALK, name="storing")


async def store(stage: Stage) -> list[Row]:
    async with PrivateRedis() as redis:
        storing: Mapping[str, str] = {"BACKTALK_RESULT_STORE": redis.url}
        pairs = [
            (await measure(stage, BACKTALK, LOAD), await measure(stage, STORING, LOAD, storing))
            for _ in range(ROUNDS)
        ]
    without, with_store = zip(*pairs, strict=True)
    return [compared(cpu(without), cpu(with_store))]


def cpu(windows: tuple[Window, ...]) -> float:
    return median(window.cpu_per_thousand for window in windows)


def compared(without: float, with_store: float) -> Row:
    ratio = with_store / without
    target, met = judged([Limit(ratio, 1.3, unit=" x")])
    return Row(
        "forward, latency 0, 100 in flight, result store: CPU-s per 1,000 jobs",
        f"{with_store:.2f}",
        ratio=f"{ratio:.2f} x of {without:.2f} without",
        target=target,
        met=met,
    )
