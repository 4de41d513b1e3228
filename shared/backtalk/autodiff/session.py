"""One connection for blocking programs: a thread with an event loop of its own, begun when something is first sent."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from typing import Final, Self, TypeVar

from backtalk.autodiff.line import Line, Work, closed
from backtalk.client import Client

T = TypeVar("T")

_PATIENCE: Final = 30.0


class Session:
    """A connection that any thread and any event loop may use. Nothing is connected before the first use.

    Made by `connect`; leave its `with` block, or call `close()`, to end it.
    """

    def __init__(self, url: str | None, namespace: str | None, patience: float) -> None:
        self._new_client: Callable[[], Client] = lambda: Client(url, namespace=namespace, patience=patience)
        self.renew()

    def renew(self) -> None:
        """Forget thread and connection without closing them: in a child process they are the parent's."""
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._retired = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _DEFAULT.drop(self)

    def run(self, work: Work[T]) -> T:
        """Do work with the client, and wait for it; an interrupt ends the wait and the work.

        Raises ConnectionClosed where the session is closed meanwhile.
        """
        line = self._running()
        if threading.current_thread() is line.thread:
            raise RuntimeError(
                "this would wait for itself; use the awaitable twin here (acall, abackward, astep)"
            )
        future = line.begin(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arun(self, work: Work[T]) -> T:
        """Do work with the client without blocking the event loop; cancelled here, it is cancelled there."""
        return await asyncio.wrap_future(self._running().begin(work))

    def close(self) -> None:
        """End the connection and the thread; the next use begins anew."""
        if line := self._taken():
            line.close()

    def retire(self) -> None:
        """End them for good: another session has taken its place."""
        self._retired = True
        self.close()

    def abandon(self) -> None:
        """End them at once, as a process does that ends."""
        if line := self._taken():
            line.close(patience=0)

    def _taken(self) -> Line | None:
        with self._lock:
            line, self._line = self._line, None
        return line

    def _running(self) -> Line:
        with self._lock:
            if self._retired:
                raise closed()
            if self._line is None:
                self._line = Line(self._new_client())
            return self._line


class _Default:
    """The connection of the process: the one that `connect` named, else that of the environment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Session | None = None

    def get(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = Session(None, None, _PATIENCE)
            return self._session

    def put(self, session: Session) -> None:
        with self._lock:
            before, self._session = self._session, session
        if before is not None and before is not session:
            before.retire()

    def drop(self, session: Session) -> None:
        """Close a session; if calls use it, they go back to what the environment names."""
        with self._lock:
            if self._session is session:
                self._session = None
        session.retire()

    def close(self) -> None:
        """Close the connection; the session stays, and opens it again where it is used again."""
        if session := self._session:
            session.close()

    def abandon(self) -> None:
        """Close it at the end of the process."""
        if session := self._session:
            session.abandon()

    def renew(self) -> None:
        """Begin anew in a child process, with the broker that was chosen."""
        self._lock = threading.Lock()
        if self._session is not None:
            self._session.renew()


_DEFAULT: Final = _Default()
atexit.register(_DEFAULT.abandon)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_DEFAULT.renew)


def connect(url: str | None = None, *, namespace: str | None = None, patience: float = _PATIENCE) -> Session:
    """Choose the broker of all calls to come, in every thread; a connection that was open before is closed.

    >>> with connect("amqp://user:password@broker.example/", namespace="staging"):  # doctest: +SKIP
    ...     response = chat(model_client, messages)

    By default BACKTALK_AMQP_URL and BACKTALK_NAMESPACE name it, and nothing needs to be called; so it is again after a
    `with` block. `patience` is how many seconds a broker may be away. Connects on first use.
    """
    session = Session(url, namespace, patience)
    _DEFAULT.put(session)
    return session


def close() -> None:
    """Close the connection; the next call opens it again, to the same broker. A program that ends does it by itself."""
    _DEFAULT.close()


def current() -> Session:
    """Return the connection that calls use."""
    return _DEFAULT.get()
