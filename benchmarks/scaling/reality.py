"""Sends jobs as a simulated trace says, through a broker and a worker that really run, and compares what they took."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from benchmarks.broker import Stage, request
from benchmarks.contenders import BACKTALK, limits, settings
from benchmarks.processes import Child, endpoint, worker
from benchmarks.scaling.arrivals import arrivals
from benchmarks.scaling.report import mean, quantile, table
from benchmarks.scaling.scenario import BESIDE_SECONDS, Load, Model, Scaling, Scenario, Workers
from benchmarks.scaling.simulation import simulate

WARM_UP = 50
# one after the other, on a worker that has nothing else to do
ALONE = 20
# at 80 % a service that is 4 % slower makes the longest waits a fifth longer, on a machine that others use
NEAR = {"mean": 0.1, "p50": 0.1, "p95": 0.25, "p99": 0.25}
RATE_NEAR = 0.03


@dataclass(frozen=True)
class Trial:
    """One worker so busy, on a model of fixed latency, for so long."""

    concurrency: int = 8
    seconds: float = 0.5
    filled: float = 0.8
    lasting: float = 60.0
    seed: int = 1

    def scenario(self, beside_seconds: float = BESIDE_SECONDS) -> Scenario:
        per_second = self.filled * self.concurrency / self.seconds
        load = Load(per_second * 3600, hours=self.lasting / 3600)
        alone = Scaling(least=1, most=1)
        workers = Workers(self.concurrency, beside_seconds=beside_seconds)
        return Scenario(load, Model(self.seconds, spread=0), workers, alone, self.seed)

    @property
    def trace(self) -> list[float]:
        return list(arrivals(self.scenario().load, Random(self.seed)))


@dataclass
class Taken:
    """How long each job took from its publishing to its answer, and how large they were."""

    seconds: list[float] = field(default_factory=list)
    job_bytes: int = 0
    answer_bytes: int = 0
    lasted: float = 0.0
    beside_seconds: float = 0.0


@dataclass
class Answers:
    """Knows when each job went, and writes down when its answer comes."""

    sent: dict[str, float] = field(default_factory=dict)
    taken: Taken = field(default_factory=Taken)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, message: AbstractIncomingMessage) -> None:
        now = time.perf_counter()
        answer = json.loads(message.body)
        if not BACKTALK.answered(answer):
            raise RuntimeError(f"a job failed: {str(answer)[:500]}")
        self.taken.seconds.append(now - self.sent[answer["id"]])
        self.taken.answer_bytes = len(message.body)
        self.arrived.set()

    async def all_of(self, count: int) -> None:
        while len(self.taken.seconds) < count:
            self.arrived.clear()
            await self.arrived.wait()


async def taken(stage: Stage, trial: Trial, trace: Sequence[float]) -> Taken:
    """Run jobs one after the other, and then the trace, through a worker."""
    namespace = await stage.declared("scaling")
    async with endpoint(trial.seconds) as base_url, stage.replies(namespace) as replies:
        environment = settings(stage, "scaling", base_url) | limits(trial.concurrency)
        async with worker(BACKTALK.command, environment) as child:
            at = At(stage, namespace, replies, child)
            await at.run([0.0] * WARM_UP)
            alone = [(await at.run([0.0])).seconds[0] for _ in range(ALONE)]
            found = await at.run(trace)
    found.beside_seconds = median(alone) - trial.seconds
    found.job_bytes = len(BACKTALK.job)
    return found


@dataclass(frozen=True)
class At:
    """A worker that runs, and where its answers come."""

    stage: Stage
    namespace: str
    replies: AbstractQueue
    child: Child

    async def run(self, trace: Sequence[float]) -> Taken:
        """Send a job at each time, and wait for all answers."""
        answers = Answers()
        tag = await self.replies.consume(answers.take, no_ack=True)
        began = time.perf_counter()
        await publish(self.stage, self.namespace, self.replies.name, answers, trace)
        await self.child.outlives(answers.all_of(len(trace)))
        answers.taken.lasted = time.perf_counter() - began
        await self.replies.cancel(tag)
        return answers.taken


async def publish(
    stage: Stage, namespace: str, reply_to: str, answers: Answers, trace: Sequence[float]
) -> None:
    """Send a job at each time of the trace, whether or not the one before is confirmed."""
    channel = await stage.connection.channel(on_return_raises=True)
    began = time.perf_counter()

    async def send(message: aio_pika.Message) -> None:
        await channel.default_exchange.publish(message, f"{namespace}.forward", mandatory=True)

    async with asyncio.TaskGroup() as sending:
        for at in trace:
            await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
            message = request(BACKTALK.job, "completion.job.v1", reply_to)
            answers.sent[str(message.message_id)] = time.perf_counter()
            sending.create_task(send(message))
    await channel.close()


@dataclass(frozen=True)
class Compared:
    """A figure of both, and the share by which they may differ."""

    figure: str
    simulated: float
    measured: float
    may: float

    @property
    def apart(self) -> float:
        return self.measured / self.simulated - 1

    @property
    def near(self) -> bool:
        return abs(self.apart) <= self.may

    def cells(self) -> tuple[str, ...]:
        judged = f"{'yes' if self.near else 'NO'} (± {self.may:.0%})"
        return self.figure, f"{self.simulated:.3f}", f"{self.measured:.3f}", f"{self.apart:+.1%}", judged


async def compared(stage: Stage, trial: Trial) -> tuple[list[Compared], Taken]:
    trace = trial.trace
    measured = await taken(stage, trial, trace)
    simulated = simulate(trial.scenario(measured.beside_seconds), trace)
    rows = [
        Compared(
            f"seconds until the answer, {name}",
            figured(name, simulated.answered),
            figured(name, measured.seconds),
            may,
        )
        for name, may in NEAR.items()
    ]
    rate = Compared("jobs/s", len(trace) / simulated.ended, len(trace) / measured.lasted, RATE_NEAR)
    return [*rows, rate], measured


def figured(name: str, seconds: Sequence[float]) -> float:
    return mean(seconds) if name == "mean" else quantile(seconds, int(name[1:]) / 100)


def told(rows: Sequence[Compared]) -> str:
    head = ("figure", "simulated", "measured", "apart", "near")
    return table([head, *(row.cells() for row in rows)])
