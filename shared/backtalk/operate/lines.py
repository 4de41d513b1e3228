"""The lines of the view, as data. None is what is not known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One queue; `there` is False where the broker has none of this name, None where it could not be asked."""

    name: str
    there: bool | None
    ready: int | None
    unacked: int | None
    in_rate: float | None
    out_rate: float | None
    consumers: int | None


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker. Rates are a second; `failed` is a share of the jobs that ended, `wait_p95` (in the queue) and `lag` (of the event loop) are seconds."""

    worker: str
    role: str
    version: str
    in_flight: int
    job_rate: float | None
    failed: float | None
    wait_p95: float | None
    lag: float | None
    up: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class ModelLine:
    """One model of an endpoint, which so many workers have `closed` and which has so many requests in flight.

    Rates are a second, latencies seconds, counts since the workers were started; `usd_per_hour` is what it costs as of now.
    """

    endpoint: str
    model: str
    closed: int
    request_rate: float | None
    in_flight: int
    p50: float | None
    p95: float | None
    input_rate: float | None
    output_rate: float | None
    input: int
    cached: int
    output: int
    reasoning: int
    cost_usd: float | None
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True)
class TroubleLine:
    """How often something went wrong since the workers were started, and how often a minute now."""

    what: str
    where: str
    code: str
    count: int
    a_minute: float | None


@dataclass(frozen=True, slots=True)
class View:
    """One look; rates are those of the last `seconds`, 0 where there was no earlier look."""

    namespace: str
    seconds: float
    queues: tuple[QueueLine, ...]
    workers: tuple[WorkerLine, ...] = ()
    models: tuple[ModelLine, ...] = ()
    troubles: tuple[TroubleLine, ...] = ()
    notes: tuple[str, ...] = ()
