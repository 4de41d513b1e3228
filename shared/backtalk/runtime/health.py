"""Whether a worker lives and is ready, and what it counted, over HTTP: answered beside the event loop, so that one that hangs shows."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from threading import Thread
from typing import Any, Final, TypeAlias

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic_core import to_json

from backtalk.transport.ending import ended

BEAT_SECONDS: Final = 1.0
# a large message may take some seconds of the loop
LATE_SECONDS: Final = 20.0

# of so many the longest lag is told
BEATS_REMEMBERED: Final = 60

# whether a worker is `ready`, and what that is made of
Conditions: TypeAlias = Callable[[], Mapping[str, bool]]


class PortTaken(Exception):
    """Raised when nothing can listen on a port."""


class Heart:
    """The event loop's heartbeat."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._beat = now()
        self._lags: deque[float] = deque([0.0], BEATS_REMEMBERED)

    @property
    def late(self) -> float:
        """Seconds since the last beat."""
        return self._now() - self._beat

    def lag(self) -> float:
        """Return by how many seconds a beat came late, at worst of the last minute; any thread may ask."""
        return max(*self._lags.copy(), self.late - BEAT_SECONDS)

    def beat(self) -> None:
        """Note that the loop turns, and by how much later than it should."""
        now = self._now()
        self._lags.append(now - self._beat - BEAT_SECONDS)
        self._beat = now

    @asynccontextmanager
    async def beating(self, hang_seconds: float = 0) -> AsyncIterator[None]:
        """Beat until the block ends; a loop that hangs for so long ends the process, and 0 means that it does not.

        What the threads were doing then goes to standard error, names and lines without values.
        """
        task = asyncio.get_running_loop().create_task(self._beats(hang_seconds))
        try:
            yield
        finally:
            await ended(task)
            faulthandler.cancel_dump_traceback_later()

    async def _beats(self, hang_seconds: float) -> None:
        while True:
            self.beat()
            if hang_seconds:
                # its thread needs no lock of the interpreter, which a regular expression may hold for ever
                faulthandler.dump_traceback_later(hang_seconds, exit=True)
            await asyncio.sleep(BEAT_SECONDS)


def report(path: str, heart: Heart, conditions: Conditions) -> tuple[HTTPStatus, Mapping[str, object]]:
    """Return status and body for a path: `/live` or `/ready`."""
    if path == "/live":
        live = heart.late < LATE_SECONDS
        return _status(good=live), {"live": live, "late_seconds": round(heart.late, 1)}
    if path == "/ready":
        met = conditions()
        return _status(good=met["ready"]), met
    return HTTPStatus.NOT_FOUND, {"error": "there are /live, /ready and /metrics"}


def _status(*, good: bool) -> HTTPStatus:
    return HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE


@contextmanager
def served(
    host: str, port: int, heart: Heart, conditions: Conditions, metrics: Callable[[], bytes] = bytes
) -> Iterator[int]:
    """Answer on a port until the block ends, and return it: port 0 takes a free one. Raises PortTaken.

    `metrics` are what `/metrics` answers, in Prometheus' text format.
    """

    class Handler(BaseHTTPRequestHandler):
        # a client that says nothing keeps no thread
        timeout = 5

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self.answer(HTTPStatus.OK, metrics(), CONTENT_TYPE_PLAIN_0_0_4)
                return
            status, told = report(self.path, heart, conditions)
            self.answer(status, to_json(told), "application/json")

        def answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: it is asked every few seconds."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # whoever comes when so many wait waits for a second or more
        request_queue_size = 128
        address_family = AF_INET6 if ":" in host else AF_INET

        def handle_error(self, request: Any, client_address: Any) -> None:
            # one that went away is no news, and standard error is the log
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)

    try:
        listening = Server((host, port), Handler)
    except OSError as error:
        raise PortTaken(f"nothing can listen on {host} port {port}: {error.strerror or error}") from error
    with listening as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
