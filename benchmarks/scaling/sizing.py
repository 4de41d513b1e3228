"""What a load takes by arithmetic: Little's law for workers, and measured figures for what each job costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from benchmarks.scaling.report import table
from benchmarks.scaling.scenario import CPU_SECONDS

HOURLY = (10_000, 100_000, 1_000_000)
SECONDS = (1, 5, 30)
CONCURRENCIES = (64, 512)
# as in the ScaledObject: a worker is added when three quarters of the others are taken
FILLED = 0.75
# a core that is busier makes jobs wait for it
CORE_FILLED = 0.7
# resident memory of a worker with 500 jobs in flight, in docs/performance.md
RESIDENT_MIB = 101
# of the job that is measured, and of its answer with its graph: `check` tells them
JOB_KB = 1.9
ANSWER_KB = 4.7
# a job and its answer, each published and delivered
MESSAGES = 4
HEAD = (
    "jobs an hour",
    "model",
    "jobs/s",
    "in flight",
    *(f"workers of {concurrency}" for concurrency in CONCURRENCIES),
    "cores in all",
    *(f"GiB, workers of {concurrency}" for concurrency in CONCURRENCIES),
    "messages/s",
    "MB/s in",
)


@dataclass(frozen=True)
class Size:
    """What so many jobs an hour take of a model with this mean latency."""

    per_hour: float
    seconds: float

    @property
    def per_second(self) -> float:
        return self.per_hour / 3600

    @property
    def in_flight(self) -> float:
        return self.per_second * self.seconds

    @property
    def cores(self) -> float:
        return self.per_second * CPU_SECONDS

    @property
    def megabytes_in(self) -> float:
        """Published a second; as much is delivered, and a cluster writes it as often as it has replicas."""
        return self.per_second * (JOB_KB + ANSWER_KB) / 1000

    def workers(self, concurrency: int) -> int:
        return max(ceil(self.in_flight / (FILLED * concurrency)), ceil(self.cores / CORE_FILLED))

    def cells(self) -> Iterator[str]:
        yield from (f"{self.per_hour:,}", f"{self.seconds:g} s", f"{self.per_second:.1f}")
        yield f"{self.in_flight:,.0f}"
        workers = [self.workers(concurrency) for concurrency in CONCURRENCIES]
        yield from (str(count) for count in workers)
        yield f"{self.cores:.2f}"
        yield from (f"{count * RESIDENT_MIB / 1024:.1f}" for count in workers)
        yield f"{self.per_second * MESSAGES:,.0f}"
        yield f"{self.megabytes_in:.2f}"


def sized() -> str:
    sizes = [Size(per_hour, seconds) for per_hour in HOURLY for seconds in SECONDS]
    return table([HEAD, *(tuple(size.cells()) for size in sizes)])
