"""What a worker counts and measures, for Prometheus: in seconds and in ones, and under no label without bounds.

One process has one `Metrics`. That of a process for a single suspect is read by nobody: its worker counts that it
isolated the message, and that it buried it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Final, TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from backtalk.runtime.model_metrics import EndpointMetrics, ModelMetrics
from backtalk.runtime.settle import Action, HandBack, Reply, Rung
from backtalk.transport.envelope import Delivery
from backtalk.wire.answer import Answer
from backtalk.wire.errors import Code, Error

JOB_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
WAIT_SECONDS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
# a time that a sender made up must not spoil the sum
LONGEST_WAIT: Final = 24 * 3600.0
_UNANSWERED: Final = {Rung: "put_off", HandBack: "handed_back"}

# what a result store tells of itself, by names that it gives
Told: TypeAlias = Callable[[], Mapping[str, int]]


class Metrics:
    """The instruments of a worker of one role, which is the label `queue`."""

    def __init__(self, role: str) -> None:
        # the time at which a series began would be a series of its own for each
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._role = role
        self._jobs = self._counter("jobs", "Messages that were settled", "outcome", "code")
        self._retries = self._counter("retries", "Messages that were put off to be tried again", "reason")
        self._letters = self._counter("dead_letters", "Messages that were filed in the dead queue", "code")
        self._failures = self._counter("publish_failures", "Messages that the broker did not take").labels(
            role
        )
        self._seconds = self._histogram("job_duration", "From taking a message to its answer", JOB_SECONDS)
        self._waits = self._histogram("queue_wait", "From sending a message to taking it", WAIT_SECONDS)
        self._in_flight = self._gauge("jobs_in_flight", "Messages that are worked on", "queue").labels(role)
        self._up = self._gauge("consumer_up", "1 while messages are taken", "queue").labels(role)
        self._lag = self._gauge("event_loop_lag_seconds", "The longest delay of the last minute")
        self._gauge("build_info", "Which version this is", "version", "role").labels(
            version("backtalk"), role
        ).set(1)
        self._models = ModelMetrics(self.registry)
        self._counted: dict[tuple[str, str], Counter] = {}
        # a rate does not see the first of what was not there before
        for outcome in ("completed", "partial", "isolated"):
            self._job(outcome, "")
        for code in Code:
            self._job("failed", code.value)

    def exposed(self) -> bytes:
        """Return everything in Prometheus' text format; any thread may ask."""
        return generate_latest(self.registry)

    # ---- what is looked at when somebody asks

    def watch_loop(self, lag: Callable[[], float]) -> None:
        self._lag.set_function(lag)

    def watch_jobs(self, in_flight: Callable[[], int]) -> None:
        self._in_flight.set_function(in_flight)

    def watch_consumer(self, conditions: Callable[[], Mapping[str, bool]]) -> None:
        def up() -> bool:
            told = conditions()
            return told["connected"] and told["consuming"]

        self._up.set_function(up)

    def watch_store(self, told: Told) -> None:
        self.registry.register(_StoreCounts(self._role, told))

    def endpoint(
        self, name: str, *, closed: Callable[[], bool], in_flight: Callable[[], int]
    ) -> EndpointMetrics:
        """Return the instruments of an endpoint."""
        return EndpointMetrics(self._models, name, closed=closed, in_flight=in_flight)

    # ---- what happens to messages

    def took(self, delivery: Delivery) -> float:
        """Note a delivery, and return the monotonic time."""
        sent = delivery.envelope.timestamp
        if sent and not delivery.redelivered and not delivery.envelope.attempt:
            self._waits.observe(min(max(0.0, time.time() - sent), LONGEST_WAIT))
        return time.monotonic()

    def settled(self, action: Action, answer: Answer, began: float) -> None:
        """Note what became of a delivery that was taken at that monotonic time."""
        code = answer.error.code.value if answer.error else ""
        self._job(_UNANSWERED.get(type(action)) or answer.status, code).inc()
        if isinstance(action, Reply):
            self._seconds.observe(time.monotonic() - began)
        elif isinstance(action, Rung):
            self._retries.labels(self._role, code).inc()

    def isolated(self) -> None:
        self._job("isolated", "").inc()

    def buried(self, error: Error) -> None:
        """Note a message that was answered because nobody could work on it."""
        self._job("failed", error.code.value).inc()

    def filed(self, error: Error) -> None:
        self._letters.labels(self._role, error.code.value).inc()

    def not_published(self) -> None:
        self._failures.inc()

    def _job(self, outcome: str, code: str) -> Counter:
        known = self._counted.get((outcome, code))
        if known is None:
            known = self._counted[outcome, code] = self._jobs.labels(self._role, outcome, code)
        return known

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"backtalk_{name}", says, ("queue", *labels), registry=self.registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"backtalk_{name}", says, labels, registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        whole = f"backtalk_{name}_seconds"
        return Histogram(whole, says, ("queue",), buckets=buckets, registry=self.registry).labels(self._role)


class _StoreCounts(Collector):
    """What the result store counts itself."""

    _SAYS: Final = {
        "calls_paid_twice": "Completions that were paid for though the store had them by then",
        "calls_recalled": "Completions that the store had, and that were not paid for again",
        "store_failures": "Questions that the store did not answer",
    }

    def __init__(self, role: str, told: Told) -> None:
        self._role = role
        self._told = told

    def collect(self) -> Iterator[CounterMetricFamily]:
        told = self._told()
        for name, says in self._SAYS.items():
            family = CounterMetricFamily(f"backtalk_{name}", says, labels=["queue"])
            family.add_metric([self._role], told.get(name, 0))
            yield family
