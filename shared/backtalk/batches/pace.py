"""How fast a batch goes, by what was done in the last minute, and how long it will still take."""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW_SECONDS: Final = 60.0
_APART_SECONDS: Final = 1.0


class Pace:
    """Counts at their times, in seconds; of a minute, one for each second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._now = (0.0, 0)

    def see(self, at: float, done: int) -> None:
        """Learn how many were done at a time."""
        self._now = (at, done)
        if not self._seen or at - self._seen[-1][0] >= _APART_SECONDS:
            self._seen.append(self._now)
        while len(self._seen) > 1 and self._seen[1][0] < at - _WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """How many are done in a second."""
        if not self._seen:
            return 0.0
        since, before = self._seen[0]
        at, done = self._now
        return (done - before) / (at - since) if at > since else 0.0

    def left(self, total: int) -> float | None:
        """Return the seconds until all are done; None while there is no telling."""
        return (total - self._now[1]) / self.rate if self.rate > 0 else None
