"""Whether workers that lived long grew: the memory they had once warm, beside that at their end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.chaos.keeper import Life

# all that a worker imports late, and its first batch of everything, is there by then
WARM_SECONDS: Final = 15.0
LONG_SECONDS: Final = 60.0
_WINDOW: Final = 5
_GROWTH: Final = 1.25
_SLACK_MIB: Final = 8.0


@dataclass(frozen=True, slots=True)
class Memory:
    """The resident memory of one worker in MiB, when it was warm and last, over so many seconds."""

    name: str
    seconds: float
    first: float
    last: float

    @property
    def flat(self) -> bool:
        return self.last <= self.first * _GROWTH + _SLACK_MIB


def memories(lives: Iterable[Life]) -> list[Memory]:
    """Return what is known of every worker that lived long enough to tell."""
    found = []
    for life in lives:
        warm = [(age, resident) for age, resident in life.rss if age >= WARM_SECONDS]
        if warm and warm[-1][0] >= LONG_SECONDS:
            first, last = warm[:_WINDOW], warm[-_WINDOW:]
            found.append(Memory(life.name, warm[-1][0], _middle(first), _middle(last)))
    return found


def _middle(samples: list[tuple[float, float]]) -> float:
    return median(resident for _, resident in samples)
