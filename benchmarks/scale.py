"""A large batch on one backward worker: how close its wall time comes to that of its calls, 200 of them at once."""

import asyncio
from statistics import median

from benchmarks.backward import LATENCY, Pass, check, row
from benchmarks.bodies import batch_feedback, under
from benchmarks.broker import Caller, Stage, caller
from benchmarks.contenders import settings
from benchmarks.processes import Child, endpoint, worker
from benchmarks.table import Limit, Row

SAMPLES = 1000
OPERATIONS = 3
AT_ONCE = 200
PASSES = 3
RESIDENT_MIB = 400
NAME = "scale"


async def scale(stage: Stage) -> list[Row]:
    body = batch_feedback(SAMPLES, OPERATIONS)
    # for every sample each operation is asked about its prompt, and all but the first about what it read
    each = Pass("per_variable", body, SAMPLES * (2 * OPERATIONS - 1), OPERATIONS)
    together = Pass(
        "per_operation", under({"calls": "per_operation"}, body), SAMPLES * OPERATIONS, OPERATIONS
    )
    return [*await measure(stage, each), *await measure(stage, together)]


async def measure(stage: Stage, measured: Pass) -> list[Row]:
    namespace = await stage.declared(NAME)
    async with endpoint(LATENCY) as base_url, caller(stage, namespace, "backward") as calling:
        environment = settings(stage, NAME, base_url) | {"BACKTALK_MODEL_CONCURRENCY": str(AT_ONCE)}
        async with worker(("backward_worker",), environment) as child:
            await child.outlives(stage.consumed(f"{namespace}.backward"))
            watch = Watch(child)
            watching = asyncio.create_task(watch.keep())
            # the first pass opens the connections
            seconds = [await gone_back(child, calling, measured) for _ in range(1 + PASSES)]
            watching.cancel()
    return rows(measured, median(seconds[1:]), watch.most)


class Watch:
    """Remembers the most memory that a worker was seen with."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.most = 0.0

    async def keep(self) -> None:
        while True:
            self.most = max(self.most, self.child.read().resident_mib)
            await asyncio.sleep(0.1)


async def gone_back(child: Child, calling: Caller, measured: Pass) -> float:
    seconds, answer = await child.outlives(calling.ask(measured.body, "feedback.v1"))
    check(measured, answer)
    return seconds


def rows(measured: Pass, seconds: float, resident_mib: float) -> list[Row]:
    name = f"{SAMPLES:,} samples, {OPERATIONS} operations each, {measured.name}, {AT_ONCE} calls at once"
    ideal = measured.calls * LATENCY / AT_ONCE
    return [
        row(
            f"{name}: s, and over {measured.calls:,} calls x {LATENCY * 1000:.0f} ms / {AT_ONCE}",
            f"{seconds:.2f}",
            Limit(seconds / ideal, 1.25, unit=" x"),
            ratio=f"{seconds / ideal:.2f} x of {ideal:.2f} s",
        ),
        row(
            f"{name}: most resident MiB",
            f"{resident_mib:.0f}",
            Limit(resident_mib, RESIDENT_MIB, unit=" MiB"),
        ),
    ]
