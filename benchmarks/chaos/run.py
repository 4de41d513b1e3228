"""One run: rounds of faults under load, the wait until all is quiet, and the evidence."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from aio_pika import exceptions as amqp

from backtalk.local.broker import BrokerFailed
from benchmarks.chaos import remains
from benchmarks.chaos.faults import FAULTS, deal
from benchmarks.chaos.load import load
from benchmarks.chaos.memory import memories
from benchmarks.chaos.promises import Evidence
from benchmarks.chaos.stage import NAMES, Stage, staged
from benchmarks.chaos.tolls import tolls

# a rung of 30 seconds, the claim of a worker that died, and a job that kills four times
QUIET_SECONDS: Final = 120.0
PAUSE_SECONDS: Final = (0.5, 2.5)
_POLL_SECONDS: Final = 0.25
_LOST: Final = (amqp.AMQPError, ConnectionError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: until so many seconds or rounds have passed, with these faults."""

    seed: int
    store: bool
    seconds: float | None
    rounds: int | None
    faults: Sequence[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to; `seconds` under load, and until all was quiet."""

    plan: Plan
    faults: Counter[str]
    evidence: Evidence
    seconds: float
    quiet_after: float


async def run(plan: Plan, logs: Path, stop: asyncio.Event) -> Outcome:
    """Run a plan; once `stop` is set it ends in order, with what there is so far."""
    rng = Random(plan.seed)
    async with staged(rng, logs, store=plan.store) as stage:
        began = time.monotonic()
        async with load(stage.desk, stage.mint):
            done = await _rounds(plan, stage, rng, stop)
        ended = time.monotonic()
        stage.endpoint.well()
        _tell(f"no more faults after {ended - began:.0f} s; waiting up to {QUIET_SECONDS:.0f} s for the rest")
        await _quiet(stage)
        quiet = time.monotonic()
        await stage.keeper.stop()
        evidence = await _evidence(stage, store=plan.store)
        return Outcome(plan, done, evidence, ended - began, quiet - ended)


async def _rounds(plan: Plan, stage: Stage, rng: Random, stop: asyncio.Event) -> Counter[str]:
    done: Counter[str] = Counter()
    until = time.monotonic() + plan.seconds if plan.seconds is not None else float("inf")
    for fault in deal(plan.faults, Random(rng.random())):
        await _pause(rng.uniform(*PAUSE_SECONDS), stop)
        if stop.is_set() or time.monotonic() >= until or done.total() == plan.rounds:
            break
        began = time.monotonic()
        try:
            # of its own, so that how much a fault draws does not change the next ones
            told = await FAULTS[fault](stage, Random(rng.random()))
        except BrokerFailed:
            # a Ctrl-C ended rabbitmqctl as well
            if stop.is_set():
                break
            raise
        done[fault] += 1
        waiting = len(stage.ledger.open)
        took = time.monotonic() - began
        _tell(
            f"round {done.total()}: {fault}, {told} ({took:.1f} s); {waiting} messages wait for their answers"
        )
    return done


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _quiet(stage: Stage) -> None:
    """Wait until everything is answered and nothing waits in a queue, or for as long as is sane."""
    queues = remains.transient(NAMES)
    with suppress(TimeoutError):
        async with asyncio.timeout(QUIET_SECONDS):
            # at a broker, which does not tell
            while stage.ledger.open or await _waiting(stage, queues):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)


async def _waiting(stage: Stage, queues: Sequence[str]) -> bool:
    # a message in hand is in no queue's count; the others a drain waits for
    if any(life.isolating for life in stage.keeper.living):
        return True
    try:
        return bool(await remains.depths(stage.node.url, queues))
    except _LOST:
        return True


async def _evidence(stage: Stage, *, store: bool) -> Evidence:
    """Look at what is there once the workers are gone: what they had not acknowledged is in the queues again."""
    left = await remains.depths(stage.node.url, remains.transient(NAMES))
    await remains.file(stage.node.url, NAMES, stage.ledger)
    lives = stage.keeper.lives
    return Evidence(stage.ledger, lives, tolls(stage.endpoint.calls, lives), memories(lives), left, store)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
