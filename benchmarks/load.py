"""Keeps a worker full and measures a window in the middle: a queue loaded before, the prefetch in flight."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aio_pika.abc import AbstractIncomingMessage

from benchmarks.broker import Stage, request
from benchmarks.contenders import Contender, limits, settings
from benchmarks.processes import Reading, endpoint, worker


@dataclass(frozen=True)
class Load:
    """`jobs` are measured; before them the worker warms up, after them it still has a full prefetch."""

    latency: float
    in_flight: int
    jobs: int

    @property
    def warm_up(self) -> int:
        return max(500, self.in_flight)

    @property
    def total(self) -> int:
        return self.warm_up + self.jobs + self.in_flight


@dataclass(frozen=True)
class Window:
    """What one worker did in the measured window."""

    jobs_per_second: float
    cpu_per_thousand: float
    resident_mib: float


class Drain:
    """Counts answers and reads the worker's meters when the window opens and when it closes."""

    def __init__(self, load: Load, read: Callable[[], Reading]) -> None:
        self.load = load
        self.read = read
        self.bodies: list[bytes] = []
        self.readings: list[Reading] = []
        self.done = asyncio.Event()

    async def take(self, message: AbstractIncomingMessage) -> None:
        self.bodies.append(message.body)
        count = len(self.bodies)
        if count in (self.load.warm_up, self.load.warm_up + self.load.jobs):
            self.readings.append(self.read())
        if count == self.load.total:
            self.done.set()

    def window(self) -> Window:
        opened, closed = self.readings
        thousands = self.load.jobs / 1000
        return Window(
            self.load.jobs / (closed.at - opened.at),
            (closed.cpu_seconds - opened.cpu_seconds) / thousands,
            closed.resident_mib,
        )


async def measure(
    stage: Stage, contender: Contender, load: Load, more: Mapping[str, str] | None = None
) -> Window:
    namespace = await stage.declared(contender.name)
    async with endpoint(load.latency) as base_url, stage.replies(namespace) as replies:
        requests = [request(contender.job, "completion.job.v1", replies.name) for _ in range(load.total)]
        await stage.send(f"{namespace}.forward", requests)
        environment = settings(stage, contender.name, base_url) | limits(load.in_flight) | dict(more or {})
        async with worker(contender.command, environment) as child:
            drain = Drain(load, child.read)
            await replies.consume(drain.take, no_ack=True)
            await child.outlives(drain.done.wait())
    check(contender, drain.bodies)
    return drain.window()


def check(contender: Contender, bodies: list[bytes]) -> None:
    """A worker that fails its jobs is fast; such a figure must not be printed."""
    answers = [json.loads(body) for body in bodies]
    wrong = [answer for answer in answers if not contender.answered(answer)]
    if wrong:
        raise RuntimeError(
            f"{contender.name} failed {len(wrong)} of {len(answers)} jobs: {str(wrong[0])[:500]}"
        )
