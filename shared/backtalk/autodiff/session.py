"""One connection for blocking programs: a thread with an event loop of its own, begun when something is first sent."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, Self, TypeAlias, TypeVar

from backtalk.client import Client

T = TypeVar("T")

Work: TypeAlias = Callable[[Client], Coroutine[Any, Any, T]]

_PATIENCE: Final = 30.0
_CLOSING_SECONDS: Final = 5.0


class Session:
    """A connection that any thread and any event loop may use. Nothing is connected before the first use.

    Made by `connect`; leave its `with` block, or call `close()`, to end it.
    """

    def __init__(self, url: str | None, namespace: str | None, patience: float) -> None:
        self._new_client: Callable[[], Client] = lambda: Client(url, namespace=namespace, patience=patience)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._opening: asyncio.Lock | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _DEFAULT.drop(self)

    def run(self, work: Work[T]) -> T:
        """Do work with the client, and wait for it; an interrupt ends the wait and the work."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "this would wait for itself; use the awaitable twin here (acall, abackward, astep)"
            )
        future = self._begin(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arun(self, work: Work[T]) -> T:
        """Do work with the client without blocking the event loop; cancelled here, it is cancelled there."""
        return await asyncio.wrap_future(self._begin(work))

    def close(self) -> None:
        """End the connection and the thread; the next use begins anew."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), loop)
        if thread is not threading.current_thread():
            thread.join(_CLOSING_SECONDS)

    def _begin(self, work: Work[T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(self._do(work), self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._opening = asyncio.Lock()
                self._thread = threading.Thread(
                    target=_serve, args=(loop,), name="backtalk connection", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _do(self, work: Work[T]) -> T:
        return await work(await self._connected())

    async def _connected(self) -> Client:
        assert self._opening is not None
        async with self._opening:
            if self._client is None:
                self._client = await self._new_client().__aenter__()
            return self._client

    async def _close(self) -> None:
        client, self._client = self._client, None
        try:
            if client is not None:
                await client.__aexit__(None, None, None)
        finally:
            asyncio.get_running_loop().stop()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()


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

    def put(self, session: Session | None) -> None:
        with self._lock:
            before, self._session = self._session, session
        if before is not None:
            before.close()

    def drop(self, session: Session) -> None:
        """Close a session; if calls use it, they go back to what the environment names."""
        with self._lock:
            if self._session is session:
                self._session = None
        session.close()

    def forget(self) -> None:
        """Drop a connection that belongs to the parent process."""
        self._lock = threading.Lock()
        self._session = None


_DEFAULT: Final = _Default()
atexit.register(lambda: _DEFAULT.put(None))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_DEFAULT.forget)


def connect(url: str | None = None, *, namespace: str | None = None, patience: float = _PATIENCE) -> Session:
    """Choose the broker of all calls to come, in every thread; a connection that was open before is closed.

    >>> with connect("amqp://user:password@broker.example/", namespace="staging"):  # doctest: +SKIP
    ...     response = chat(model_client, messages)

    By default BACKTALK_AMQP_URL and BACKTALK_NAMESPACE name it, and nothing needs to be called; so it is again after a
    `with` block. `patience` is how many
    seconds a broker may be away. Connects on first use.
    """
    session = Session(url, namespace, patience)
    _DEFAULT.put(session)
    return session


def close() -> None:
    """Close the connection; the next call opens one again. A program that ends does it by itself."""
    _DEFAULT.put(None)


def current() -> Session:
    """Return the connection that calls use."""
    return _DEFAULT.get()
