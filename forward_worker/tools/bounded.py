"""A limit of processor time for work that cannot be trusted to end: other people's schemas and patterns."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class TookTooLong(Exception):
    """Raised inside work that has used up its time."""


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise TookTooLong inside the block after so many seconds of processor time.

    A timer's signal is the only thing that gets into a running loop, and into a pattern that is being searched: both
    the interpreter and its `re` look for signals. Only the main thread has them; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _interrupt)
    try:
        # again and again: the first may hit where an exception is swallowed
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise TookTooLong
