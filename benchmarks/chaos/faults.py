"""What goes wrong, by name: a table of faults, and the deck they are dealt from."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random
from typing import Final, TypeAlias

from backtalk.local.simulated_rules import Rule
from benchmarks.chaos.stage import Stage

# does it, and says to whom or what
Fault: TypeAlias = Callable[[Stage, Random], Awaitable[str]]

_REPEATED: Final = 5
_RECENT: Final = 40
_JUNK: Final = 3


def deal(names: Sequence[str], rng: Random) -> Iterator[str]:
    """Yield the names in a random order, each once before any comes again."""
    while True:
        yield from rng.sample(names, len(names))


def _signals(number: signal.Signals) -> Fault:
    async def fault(stage: Stage, rng: Random) -> str:
        ready = [life for life in stage.keeper.living if life.ready]
        if not ready:
            return "nobody was there"
        life = rng.choice(ready)
        life.send(number)
        return life.name

    return fault


def _troubles(seconds: float, rule: Rule) -> Fault:
    async def fault(stage: Stage, _: Random) -> str:
        stage.endpoint.trouble(rule, seconds)
        return f"for {seconds:g} s"

    return fault


async def _restart(stage: Stage, _: Random) -> str:
    await stage.node.restart()
    return "stopped and started"


async def _crash(stage: Stage, _: Random) -> str:
    await stage.node.crash()
    return "killed and started again"


async def _close(stage: Stage, _: Random) -> str:
    await stage.node.disconnect()
    return "all connections"


async def _repeat(stage: Stage, rng: Random) -> str:
    recent = [stage.ledger.sent[id] for id in sorted(stage.ledger.confirmed, key=_number)[-_RECENT:]]
    again = rng.sample(recent, min(_REPEATED, len(recent)))
    for message in again:
        stage.desk.send(message)
    return f"{len(again)} messages"


async def _junk(stage: Stage, _: Random) -> str:
    for _at in range(_JUNK):
        stage.desk.send(stage.mint.junk())
    return f"{_JUNK} messages"


async def _deadly(stage: Stage, _: Random) -> str:
    message = stage.mint.deadly()
    stage.desk.send(message)
    return message.id


def _number(id: str) -> int:
    return int(id.rpartition("-")[2])


FAULTS: Final[dict[str, Fault]] = {
    "sigkill": _signals(signal.SIGKILL),
    "sigterm": _signals(signal.SIGTERM),
    "restart": _restart,
    "crash": _crash,
    "close": _close,
    "429": _troubles(2, Rule(status=429, retry_after=1)),
    "429-long": _troubles(1, Rule(status=429, retry_after=7)),
    "500": _troubles(1.5, Rule(status=500)),
    "stall": _troubles(1, Rule(stall=True)),
    "cut": _troubles(1.5, Rule(cut=True)),
    "401": _troubles(4, Rule(status=401)),
    "repeat": _repeat,
    "junk": _junk,
    "deadly": _deadly,
}
