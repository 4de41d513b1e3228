"""The backward worker: how close a pass comes to the time its longest row of model calls takes by itself."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks.bodies import branches_feedback, chain_feedback, shared_prompt_feedback
from benchmarks.broker import Caller, Stage, caller
from benchmarks.contenders import settings
from benchmarks.processes import Child, endpoint, worker
from benchmarks.table import Limit, Row, judged

LATENCY = 0.05
PASSES = 7
NAME = "backward"


@dataclass(frozen=True)
class Pass:
    """One message of feedback, the model calls it takes, and how long it may last."""

    name: str
    body: bytes
    calls: int
    depth: int

    @property
    def ideal(self) -> float:
        """The time of the calls that can only be made one after another."""
        return self.depth * LATENCY


async def backward(stage: Stage) -> list[Row]:
    # each of the three calls of a branch is asked about its prompt, and all but the first about what it read
    branches = Pass(
        "16 branches of 3, one loss", branches_feedback(16, 3), calls=16 * (1 + 2 + 2 + 1), depth=4
    )
    chain = Pass("chain of 10", chain_feedback(10), calls=10 + 9, depth=10)
    shared = Pass("1,000 responses of one prompt", shared_prompt_feedback(1000), calls=1000, depth=1)
    async with running(stage) as (child, calling):
        return [
            against_depth(branches, await wall(child, calling, branches)),
            against_depth(chain, await wall(child, calling, chain)),
            against_clock(shared, await wall(child, calling, shared)),
        ]


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[tuple[Child, Caller]]:
    namespace = await stage.declared(NAME)
    async with (
        endpoint(LATENCY) as base_url,
        worker(("backward_worker",), settings(stage, NAME, base_url)) as child,
        caller(stage, namespace, "backward") as calling,
    ):
        await child.outlives(stage.consumed(f"{namespace}.backward"))
        yield child, calling


async def wall(child: Child, calling: Caller, measured: Pass) -> float:
    """The median from publishing the feedback to having the gradients; the first pass opens connections."""
    seconds = []
    for _ in range(1 + PASSES):
        waited, answer = await child.outlives(calling.ask(measured.body, "feedback.v1"))
        check(measured, answer)
        seconds.append(waited)
    return median(seconds[1:])


def check(measured: Pass, answer: bytes) -> None:
    """A pass that failed, or that left calls out, is fast; such a figure must not be printed."""
    gradients = json.loads(answer)
    if gradients["status"] != "completed" or gradients["usage"]["calls"] != measured.calls:
        raise RuntimeError(
            f"backward, {measured.name}: not {measured.calls} calls, all done: {answer[:500]!r}"
        )


def against_depth(measured: Pass, seconds: float) -> Row:
    limit = Limit(seconds / measured.ideal, 1.15, unit=" x")
    name = f"backward, {measured.name}: s, and over {measured.depth} x {LATENCY * 1000:.0f} ms"
    return row(name, f"{seconds:.3f}", limit, ratio=f"{limit.value:.2f} x")


def against_clock(measured: Pass, seconds: float) -> Row:
    return row(f"backward, {measured.name}: s", f"{seconds:.2f}", Limit(seconds, 1.5, unit=" s"))


def row(name: str, figure: str, limit: Limit, ratio: str = "") -> Row:
    target, met = judged([limit])
    return Row(name, figure, ratio=ratio, target=target, met=met)
