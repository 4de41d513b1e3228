"""What is simulated, as data: a load, workers, how they are scaled, and the endpoint that they ask."""

from dataclasses import dataclass, field
from math import ceil

# measured by `make bench`, in docs/performance.md: seconds of CPU a job takes of its worker's one core
CPU_SECONDS = 0.00074
# and what a job on an idle worker waits for beside the model: broker, disk and network
BESIDE_SECONDS = 0.0024


@dataclass(frozen=True)
class Load:
    """Jobs an hour, and how they come: `steady`, in `bursts`, or over a `day`.

    The rate is that of the quiet hours; a burst multiplies it by `peak` for `burst_seconds` of each `every_seconds`,
    a day raises it by a cosine from one to `peak` and back within 24 hours.
    """

    per_hour: float
    hours: float = 0.25
    shape: str = "steady"
    peak: float = 1.0
    burst_seconds: float = 120.0
    every_seconds: float = 1800.0

    @property
    def per_second(self) -> float:
        return self.per_hour / 3600

    @property
    def seconds(self) -> float:
        return self.hours * 3600


@dataclass(frozen=True)
class Model:
    """Latency is lognormal with this mean; `spread` 0 makes it fixed. `calls_per_second` is the endpoint's limit."""

    seconds: float
    spread: float = 0.5
    calls_per_second: float | None = None


@dataclass(frozen=True)
class Workers:
    """What one worker takes at once, how long a new one needs until it consumes, and what a job takes of it.

    A job holds its place beside the model's time for as long as broker and disk take to keep its answer.
    """

    concurrency: int = 64
    start_seconds: float = 20.0
    cpu_seconds: float = CPU_SECONDS
    beside_seconds: float = BESIDE_SECONDS


@dataclass(frozen=True)
class Scaling:
    """What the ScaledObject of deploy/kubernetes says; `value` None is three quarters of the concurrency."""

    least: int = 1
    most: int = 200
    value: float | None = None
    sync_seconds: float = 15.0
    up_share: float = 1.0
    up_pods: int = 4
    down_share: float = 0.25
    down_period_seconds: float = 60.0
    calm_seconds: float = 300.0


@dataclass(frozen=True)
class Scenario:
    load: Load
    model: Model
    workers: Workers = field(default_factory=Workers)
    scaling: Scaling = field(default_factory=Scaling)
    seed: int = 1

    @property
    def value(self) -> float:
        """Messages for each worker, waiting or being worked on, that KEDA keeps to."""
        return self.scaling.value or self.workers.concurrency * 3 / 4

    @property
    def at_start(self) -> int:
        """Workers that the first hour needs by Little's law: what is simulated is not a cold start."""
        needed = ceil(self.load.per_second * self.model.seconds / self.value)
        return min(max(needed, self.scaling.least), self.scaling.most)
