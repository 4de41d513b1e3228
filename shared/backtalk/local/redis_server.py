"""A private Redis for the tests and the benchmarks: on a free port, in a temporary folder, gone at the end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from backtalk.local.broker import free_ports
from backtalk.local.processes import listens, spawn, stop

INSTALL: Final = (
    "Redis is not installed here. Install it (Debian and Ubuntu: sudo apt-get install redis-server; "
    "macOS: brew install redis)"
)
_START_SECONDS: Final = 20.0


class RedisFailed(RuntimeError):
    """Raised when Redis is missing or does not start; the message says what to do."""


class PrivateRedis:
    """A Redis of one's own that keeps nothing on disk: `async with PrivateRedis() as redis: redis.url`."""

    def __init__(self, *options: str) -> None:
        self._options = options
        (self.port,) = free_ports(1)
        self._folder = AsyncExitStack()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        temporary = tempfile.TemporaryDirectory(prefix="backtalk-redis-", ignore_cleanup_errors=True)
        self._path = Path(self._folder.enter_context(temporary))
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        await self._folder.aclose()

    async def start(self) -> None:
        """Start it, empty, at the address that it has for good."""
        server = shutil.which("redis-server")
        if server is None:
            raise RedisFailed(INSTALL)
        kept_nowhere = ["--save", "", "--appendonly", "no", "--dir", str(self._path)]
        command = [server, "--bind", "127.0.0.1", "--port", str(self.port), *kept_nowhere, *self._options]
        log = self._path / "log"
        self._process = await spawn(command, env={}, log=log)
        if not await listens(self._process, self.port, patience=_START_SECONDS):
            await self.stop()
            raise RedisFailed(f"Redis did not start. It said:\n{log.read_text('utf-8', 'replace')[-2000:]}")

    async def stop(self) -> None:
        """End it; what it held is lost."""
        if self._process is not None:
            await stop(self._process)
            self._process = None
