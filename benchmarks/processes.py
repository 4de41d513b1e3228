"""The processes a measurement runs: started with exactly its settings, read by psutil, stopped at the end."""

import asyncio
import os
import sys
import tempfile
import time
from asyncio import FIRST_COMPLETED
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 20
PATIENCE_SECONDS = 120

Result = TypeVar("Result")


@dataclass(frozen=True)
class Reading:
    """A worker's clock and meters at one moment; a worker that forks is charged for its children."""

    at: float
    cpu_seconds: float
    resident_mib: float


@dataclass(frozen=True)
class Child:
    """A running process and the file its output goes to."""

    process: Process
    log: IO[bytes]

    def read(self) -> Reading:
        main = psutil.Process(self.process.pid)
        family = [main, *main.children(recursive=True)]
        times = [member.cpu_times() for member in family]
        resident = sum(member.memory_info().rss for member in family)
        cpu = sum(each.user + each.system for each in times)
        return Reading(time.perf_counter(), cpu, resident / 2**20)

    async def outlives(self, waiting: Coroutine[Any, Any, Result]) -> Result:
        """Waits, and gives up with the process's last words when it dies or nothing comes."""
        outcome, exit_code = asyncio.ensure_future(waiting), asyncio.ensure_future(self.process.wait())
        await asyncio.wait({outcome, exit_code}, timeout=PATIENCE_SECONDS, return_when=FIRST_COMPLETED)
        exit_code.cancel()
        if outcome.done():
            return outcome.result()
        outcome.cancel()
        raise RuntimeError(
            f"the worker ended or fell silent (exit {self.process.returncode}):\n{self.last_words()}"
        )

    def last_words(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-3000:]


@asynccontextmanager
async def worker(command: tuple[str, ...], settings: Mapping[str, str]) -> AsyncIterator[Child]:
    """Runs `python -m` with the command until the block ends."""
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, cwd=ROOT, env=environment(settings), stdout=log, stderr=STDOUT
        )
        try:
            yield Child(process, log)
        finally:
            await stop(process)


@asynccontextmanager
async def endpoint(latency: float) -> AsyncIterator[str]:
    """The base URL of an endpoint that answers after `latency` seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.endpoint", "--latency", str(latency), cwd=ROOT, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        ready = await process.stdout.readline()
        yield ready.decode().split()[-1]
    finally:
        await stop(process)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings of the shell that starts the benchmark must not leak into what is compared."""
    ours = ("BACKTALK_", "OPENAI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | dict(settings)


async def stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
