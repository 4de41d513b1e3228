"""One connection while it lasts: a thread with an event loop, and the work that uses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeAlias, TypeVar

from backtalk.client import Client

T = TypeVar("T")

Work: TypeAlias = Callable[[Client], Coroutine[Any, Any, T]]

_CLOSING_SECONDS: Final = 5.0
_OPENING_SECONDS: Final = 2.0


class ConnectionClosed(ConnectionError):
    """The connection was closed, by `close()`, `connect()` or the end of a `with` block, while a call waited."""


class Line:
    """A connection and its thread, from the first use to the end; it does not open again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connected: asyncio.Task[Client] | None = None
        self._work: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="backtalk connection", daemon=True)
        self.thread.start()

    def begin(self, work: Work[T]) -> Future[T]:
        """Start work in the thread. Raises ConnectionClosed where it has ended meanwhile."""
        doing = self._do(work)
        try:
            return asyncio.run_coroutine_threadsafe(doing, self._loop)
        except RuntimeError as error:
            doing.close()
            raise closed() from error

    def close(self, patience: float = _OPENING_SECONDS) -> None:
        """End all work and the connection, then the thread, and wait for that.

        `patience` is how many seconds a connection that is just being made may take to be whole: cut off in the middle
        of its handshake, it would stay open on the broker's side as long as this process lives.
        """
        closing = self._close(patience)
        try:
            asyncio.run_coroutine_threadsafe(closing, self._loop)
        except RuntimeError:
            closing.close()
        if self.thread is not threading.current_thread():
            self.thread.join(_CLOSING_SECONDS)

    async def _do(self, work: Work[T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        if self._closing:
            raise closed()
        self._work.add(task)
        try:
            return await work(await self._connection())
        except asyncio.CancelledError:
            if self._closing:
                raise closed() from None
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            # in this thread it would end the connection and leave the one who waits without a word
            raise RuntimeError(
                f"{type(error).__name__} in an awaited function; raise it where the program waits"
            ) from error
        finally:
            self._work.discard(task)

    async def _connection(self) -> Client:
        """Return the client, connected: by the first that asks, whoever gives up meanwhile."""
        if self._connected is None:
            self._connected = asyncio.ensure_future(self._client.__aenter__())
        connecting = self._connected
        try:
            return await asyncio.shield(connecting)
        except Exception:
            if self._connected is connecting:
                self._connected = None
            raise

    async def _close(self, patience: float) -> None:
        self._closing = True
        waiting = list(self._work)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        try:
            if self._connected is not None and await _is_open(self._connected, patience):
                await self._client.__aexit__(None, None, None)
        finally:
            self._loop.stop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self._loop.close()


async def _is_open(connecting: asyncio.Task[Client], patience: float) -> bool:
    """Tell whether there is a connection to close."""
    await asyncio.wait((connecting,), timeout=patience)
    return connecting.done() and not connecting.cancelled() and connecting.exception() is None


def closed() -> ConnectionClosed:
    """Return the error of a call whose connection is gone."""
    return ConnectionClosed("the connection was closed while a call waited; call again to open a new one")
