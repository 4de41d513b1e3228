"""Keeps the workers running: whoever ends, and why ever, is started again under a new name."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Self

import psutil  # type: ignore[import-untyped]

from backtalk.local.processes import spawn, stop
from benchmarks.processes import ROOT

READY_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 30.0
_READY: Final = b'"event":"ready"'
_SAMPLE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.05
# a forward worker that some jobs kill
_DEADLY: Final = (sys.executable, str(ROOT / "tests" / "fixtures" / "deadly_worker.py"))
_BACKWARD: Final = (sys.executable, "-m", "backward_worker")
WORKERS: Final = {"forward-1": _DEADLY, "forward-2": _DEADLY, "forward-3": _DEADLY, "backward-1": _BACKWARD}


@dataclass(slots=True)
class Life:
    """One process of a worker, from its start to its end; `told` is the signal it was sent, `rss` in MiB by age."""

    name: str
    process: Process
    log: Path
    began: float = field(default_factory=time.monotonic)
    told: signal.Signals | None = None
    ended: float | None = None
    code: int | None = None
    rss: list[tuple[float, float]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether it consumes, and was not told to end."""
        return self.ended is None and self.told is None and _READY in self.log.read_bytes()

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def isolating(self) -> bool:
        """Whether it has a message in a process of its own."""
        with suppress(psutil.NoSuchProcess):
            return bool(psutil.Process(self.process.pid).children())
        return False

    def sample(self) -> None:
        with suppress(psutil.NoSuchProcess):
            resident = psutil.Process(self.process.pid).memory_info().rss
            self.rss.append((time.monotonic() - self.began, resident / 2**20))

    def send(self, number: signal.Signals) -> None:
        if self.ended is None and self.process.returncode is None:
            self.told = number
            self.process.send_signal(number)


class Keeper:
    """Runs the workers of `WORKERS` between `async with` and `stop`; `lives` holds all there ever were."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self.lives: list[Life] = []
        self._environment = environment
        self._logs = logs
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(worker)) for worker in WORKERS]
        self._sampler = loop.create_task(self._sample())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def living(self) -> list[Life]:
        return [life for life in self.lives if life.ended is None]

    async def ready(self) -> None:
        """Wait until all workers consume."""
        async with asyncio.timeout(READY_SECONDS):
            # in the logs of other processes
            while sum(life.ready for life in self.living) < len(WORKERS):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """Have all workers drain, and start none again."""
        if self._stopping:
            return
        self._stopping = True
        self._sampler.cancel()
        for life in self.living:
            life.sample()
            life.send(signal.SIGTERM)
        await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
        # a second signal, and then by force
        await asyncio.gather(*(stop(life.process) for life in self.living))
        await asyncio.wait([*self._tasks, self._sampler])

    async def _keep(self, worker: str) -> None:
        for turn in count(1):
            if self._stopping:
                return
            name = f"{worker}.{turn}"
            log = self._logs / f"{name}.log"
            # its key at the endpoint tells whose call a call was
            environment = {**self._environment, "OPENAI_API_KEY": name}
            life = Life(name, await spawn(WORKERS[worker], env=environment, log=log), log)
            self.lives.append(life)
            life.code = await life.process.wait()
            life.ended = time.monotonic()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            for life in self.living:
                life.sample()
