"""What was paid for more than once, and which of it a worker could not help: it ended with the call in flight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.chaos.endpoint import Call
from benchmarks.chaos.keeper import Life

# a worker that got an answer so shortly before its end had no time to remember it, and ends are noticed late
MOMENT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Tolls:
    """Calls that were paid for; `in_flight` when a worker died, and `unexplained`: tokens paid again though nobody died."""

    calls: int
    twice: int
    in_flight: int
    unexplained: tuple[str, ...]


def tolls(calls: Iterable[Call], lives: Sequence[Life]) -> Tolls:
    """Return what was paid; calls without a token are probes, and count for nothing."""
    # 0 is the end of a drain, which leaves nothing in flight
    ends = {life.name: life.ended for life in lives if life.code != 0 and life.ended is not None}
    paid: defaultdict[str, list[bool]] = defaultdict(list)
    for call in calls:
        if call.token and call.paid is not None:
            paid[call.token].append(_in_flight(call, ends.get(call.worker)))
    return Tolls(
        calls=sum(map(len, paid.values())),
        twice=sum(len(each) - 1 for each in paid.values()),
        in_flight=sum(sum(each) for each in paid.values()),
        unexplained=tuple(token for token, each in paid.items() if each.count(False) > 1),
    )


def _in_flight(call: Call, end: float | None) -> bool:
    return end is not None and call.paid is not None and call.paid >= end - MOMENT_SECONDS
