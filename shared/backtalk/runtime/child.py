"""A message in a process of its own: whatever it does there, neither its neighbours nor its worker die of it."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from threading import Thread
from typing import BinaryIO, Final

from backtalk.runtime.handover import packed
from backtalk.runtime.telemetry import log
from backtalk.transport.envelope import Envelope

# what a child says of itself, on its standard output
BEGUN: Final = b"begun\n"
SETTLED: Final = b"settled\n"
_ORPHANED: Final = 1
_BLOCK: Final = 65536
_FIRST_TO_GO: Final = "1000"


class Ending(Enum):
    """How the process of a message ended."""

    SETTLED = auto()
    DIED = auto()
    # before it had the message: that is not to blame
    NOT_BEGUN = auto()


@dataclass(frozen=True, slots=True)
class Command:
    """How a worker starts the process for one message; `env` is None for its own environment."""

    words: Sequence[str]
    env: Mapping[str, str] | None = None


class Child:
    """Works messages one after the other, each in a new process that has so many `seconds`."""

    def __init__(self, command: Command, seconds: float) -> None:
        self._command = command
        self._seconds = seconds
        self._process: Process | None = None

    async def work(self, envelope: Envelope) -> Ending:
        """Have a message worked on; a process that takes too long is killed. Leaves no process behind."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command.words,
                env=self._command.env,
                stdin=PIPE,
                stdout=PIPE,
                # a Ctrl-C is for the worker, which passes it on
                start_new_session=True,
            )
        except OSError as error:
            log.error("process of a suspect cannot be started", problem=str(error))
            return Ending.NOT_BEGUN
        self._process = process
        told: set[bytes] = set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await _handed(process, envelope)
                    await _heard(process, told)
        finally:
            self._process = None
            with suppress(ProcessLookupError):
                process.kill()
            code = await process.wait()
        if SETTLED in told:
            return Ending.SETTLED
        log.warning("process of a suspect ended", code=code, begun=BEGUN in told)
        return Ending.DIED if BEGUN in told else Ending.NOT_BEGUN

    def stop(self) -> None:
        """Have the process drain, as a worker does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()


async def _handed(process: Process, envelope: Envelope) -> None:
    """Give a process its message; its input stays open, so that it learns when we are gone."""
    assert process.stdin is not None
    # one that died before it had read everything says so by its exit code
    with suppress(ConnectionError):
        process.stdin.write(packed(envelope))
        await process.stdin.drain()


async def _heard(process: Process, told: set[bytes]) -> None:
    assert process.stdout is not None
    rest = b""
    while block := await process.stdout.read(_BLOCK):
        *lines, rest = (rest + block).splitlines(keepends=True)
        told.update(line for line in (*lines, rest) if line in (BEGUN, SETTLED))
        # what a library prints may have no end of line for long
        rest = rest[-len(SETTLED) :]
    await process.wait()


def say(word: bytes) -> None:
    """Tell the worker that started this process."""
    # on a line of its own, whatever a library has begun to print
    os.write(sys.stdout.fileno(), b"\n" + word)


def give_way() -> None:
    """Be the first to be killed when memory runs out, before the worker that started us."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)


def end_with(parent: BinaryIO, end: Callable[[int], None] = os._exit) -> None:
    """End this process when the worker that started it is gone: somebody else has the message then."""

    def wait() -> None:
        # past the buffer, whose lock would be missed at the interpreter's end
        while os.read(parent.fileno(), 1):
            pass
        end(_ORPHANED)

    Thread(target=wait, daemon=True).start()
