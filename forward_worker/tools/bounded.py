"""A limit of processor time for work that cannot be trusted to end: other people's schemas and patterns."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Final, Self

_LEAST: Final = 1e-4


class TookTooLong(Exception):
    """Raised inside work that has used up its time."""


class bounded:  # noqa: N801  it reads as a statement
    """Raise TookTooLong inside the block after so many seconds of processor time.

    A timer's signal is the only thing that gets into a running loop, and into a pattern that is being searched: both
    the interpreter and its `re` look for signals. Only the main thread has them; elsewhere there is no limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = max(seconds, _LEAST)
        self._running = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGVTALRM, self._interrupt)
            self._running = True
            # again and again: the first may hit where an exception is swallowed
            signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds, self._seconds)
        return self

    def __exit__(self, *_: object) -> None:
        # first, so that a signal on the way out finds nothing to interrupt
        running, self._running = self._running, False
        if running:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, self._before)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._running:
            raise TookTooLong
