"""Child processes that are ready before they are used and gone afterwards; only those started here are ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

_STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05
_LAST_WORDS: Final = 2000


class ProcessFailed(RuntimeError):
    """Raised when a process does not become ready; the message holds its last words."""


@asynccontextmanager
async def running(
    command: Sequence[str], *, env: Mapping[str, str], log: Path, ready: str, patience: float = 60.0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process whose output goes to `log`, from the moment it has printed `ready` until the block ends."""
    process = await spawn(command, env=env, log=log)
    try:
        await _ready(process, command, log, ready, patience)
        yield process
    finally:
        await stop(process)


async def spawn(
    command: Sequence[str], *, env: Mapping[str, str], log: Path | None = None
) -> asyncio.subprocess.Process:
    """Start a process in a session of its own, so that a Ctrl-C for us does not end it before we are done."""
    with log.open("ab") if log else open(os.devnull, "wb") as output:  # noqa: ASYNC230, PTH123
        return await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


async def listens(process: asyncio.subprocess.Process, port: int, *, patience: float) -> bool:
    """Wait until a server on this machine takes connections; False where it ended or took too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while process.returncode is None and loop.time() < deadline:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a process and its own children; by force when it does not listen."""
    _signal(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


async def _ready(
    process: asyncio.subprocess.Process, command: Sequence[str], log: Path, ready: str, patience: float
) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while ready not in (told := log.read_text("utf-8", "replace")):
        if process.returncode is not None or loop.time() > deadline:
            name = " ".join(Path(command[0]).name if at == 0 else word for at, word in enumerate(command))
            raise ProcessFailed(f"{name} did not become ready. It said:\n{told[-_LAST_WORDS:]}")
        await asyncio.sleep(_POLL_SECONDS)
