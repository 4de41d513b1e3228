"""Large graphs: decode and validate, encode, and the chain rule where a gradient costs nothing."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import TypeVar

from backtalk.wire.codec import decode, encode
from backtalk.wire.graph import Graph
from backward_worker.backward import Gradients
from backward_worker.backward import backward as chain_rule
from backward_worker.step import Contribution, Step
from benchmarks.bodies import large_graph
from benchmarks.broker import Stage
from benchmarks.table import Limit, Row, judged

OPERATIONS = 10_000
CHAINS = 100
LONG_CHAIN = 5_000
REPEATS = 5

Result = TypeVar("Result")


async def graphs(_: Stage) -> list[Row]:
    """In a thread of its own, because the chain rule wants an event loop for each repeat."""
    return await asyncio.to_thread(large_and_long)


def large_and_long() -> list[Row]:
    body = large_graph(OPERATIONS, CHAINS)
    decoding, graph = timed(lambda: decode(body, Graph))
    encoding, _ = timed(lambda: encode(graph))
    passing, gradients = timed(lambda: back_through(graph, ends(CHAINS, OPERATIONS // CHAINS)))
    check(gradients, OPERATIONS)
    name = f"graph of {OPERATIONS:,} operations"
    return [
        row(f"{name} ({len(body) / 1e6:.1f} MB): decode and validate, ms", decoding, 250),
        row(f"{name}: encode, ms", encoding, 50),
        row(f"{name}: backward, no-cost rule, ms", passing, 500),
        long_chain(),
    ]


def long_chain() -> Row:
    graph = decode(large_graph(LONG_CHAIN, 1), Graph)
    seconds, gradients = timed(lambda: back_through(graph, ends(1, LONG_CHAIN)))
    check(gradients, LONG_CHAIN)
    name = f"chain of {LONG_CHAIN:,} operations: backward, no-cost rule, ms"
    return Row(name, f"{seconds * 1000:.0f}", target="no recursion", met="yes")


def ends(chains: int, length: int) -> list[str]:
    return [f"chain{each}-{length - 1}-out" for each in range(chains)]


def back_through(graph: Graph, seeded: Sequence[str]) -> Gradients[float]:
    seeds = {variable: [Contribution(1.0, feedback=(variable,))] for variable in seeded}
    wanted = [variable.id for variable in graph.parameters()]
    return asyncio.run(chain_rule(graph, seeds, wanted, {"chat_completion": free}))


def free(step: Step[float]) -> list[Awaitable[float]]:
    return [one() for _ in step.targets]


async def one() -> float:
    return 1.0


def check(gradients: Gradients[float], reads: int) -> None:
    """Every operation reads the one prompt, so it has as many gradients."""
    found = sum(len(each) for each in gradients.contributions.values())
    if found != reads or gradients.failures:
        raise RuntimeError(f"{found} gradients and {len(gradients.failures)} failures instead of {reads}")


def row(name: str, seconds: float, bound: float) -> Row:
    target, met = judged([Limit(seconds * 1000, bound, unit=" ms")])
    return Row(name, f"{seconds * 1000:.0f}", target=target, met=met)


def timed(run: Callable[[], Result]) -> tuple[float, Result]:
    """The median seconds, and the last result."""
    runs = [once(run)[0] for _ in range(REPEATS - 1)]
    seconds, result = once(run)
    return median([*runs, seconds]), result


def once(run: Callable[[], Result]) -> tuple[float, Result]:
    # the result before is gone by now, so that no run pays for clearing away another's
    gc.collect()
    began = time.perf_counter()
    result = run()
    return time.perf_counter() - began, result
