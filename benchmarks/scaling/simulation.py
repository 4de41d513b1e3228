"""Lets jobs come, wait, be worked on and be answered, with KEDA looking on: one event after the other, by a seed."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from benchmarks.scaling.arrivals import arrivals
from benchmarks.scaling.crowd import Crowd, Pod
from benchmarks.scaling.scaler import Scaler
from benchmarks.scaling.scenario import Scenario


@dataclass
class Outcome:
    """What happened: seconds of waiting and until the answer for each job, and what the workers did."""

    waits: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    longest_queue: int = 0
    most_workers: int = 0
    busy_seconds: float = 0.0
    open_seconds: float = 0.0
    worker_seconds: float = 0.0
    ended: float = 0.0


class Simulation:
    """One run of a scenario; `trace` gives the arrivals instead of its load."""

    def __init__(self, scenario: Scenario, trace: Iterable[float] | None = None) -> None:
        self.scenario = scenario
        # of their own, so that another model meets the same arrivals
        self.latencies = Random(f"latencies {scenario.seed}")
        self.coming = iter(arrivals(scenario.load, Random(scenario.seed)) if trace is None else trace)
        self.crowd = Crowd(scenario.workers.concurrency)
        self.scaler = Scaler(scenario.scaling, scenario.value)
        self.queue: deque[float] = deque()
        # (time, number, what): the number keeps equal times in order
        self.events: list[tuple[float, int, str, Pod | None]] = []
        self.number = count()
        self.in_flight = 0
        self.gate = 0.0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Until all that came is answered."""
        for _ in range(self.scenario.at_start):
            self.crowd.open(self.crowd.add(0.0), 0.0)
        # as if they had been asked for all along
        self.scaler.asked.append((0.0, self.scenario.at_start))
        self.later(self.scenario.scaling.sync_seconds, "scale")
        arrival = next(self.coming, math.inf)
        while arrival < math.inf or self.queue or self.in_flight:
            if arrival <= self.events[0][0]:
                self.queue.append(arrival)
                self.dispatch(arrival)
                arrival = next(self.coming, math.inf)
            else:
                now, _, what, pod = heappop(self.events)
                self.happen(now, what, pod)
        return self.summed()

    def happen(self, now: float, what: str, pod: Pod | None) -> None:
        if what == "scale":
            self.scale(now)
            return
        assert pod is not None
        if what == "open":
            self.crowd.open(pod, now)
        else:
            self.in_flight -= 1
            self.crowd.finish(pod, now)
            self.outcome.ended = now
        self.dispatch(now)

    def later(self, at: float, what: str, pod: Pod | None = None) -> None:
        heappush(self.events, (at, next(self.number), what, pod))

    def dispatch(self, now: float) -> None:
        """Gives out what waits while anybody has room."""
        while self.queue and (pod := self.crowd.take()):
            arrived = self.queue.popleft()
            done = self.done(now, pod)
            self.in_flight += 1
            self.later(done, "done", pod)
            self.outcome.waits.append(now - arrived)
            self.outcome.answered.append(done - arrived)
            self.outcome.busy_seconds += done - now
        self.outcome.longest_queue = max(self.outcome.longest_queue, len(self.queue))

    def done(self, now: float, pod: Pod) -> float:
        """When a job that is taken now is answered: its turn on the core, at the endpoint, and the model."""
        pod.cpu_free = called = max(now, pod.cpu_free) + self.scenario.workers.cpu_seconds
        if limit := self.scenario.model.calls_per_second:
            called = max(called, self.gate)
            self.gate = called + 1 / limit
        return called + self.latency() + self.scenario.workers.beside_seconds

    def latency(self) -> float:
        model = self.scenario.model
        if not model.spread:
            return model.seconds
        return self.latencies.lognormvariate(math.log(model.seconds) - model.spread**2 / 2, model.spread)

    def scale(self, now: float) -> None:
        current = len(self.crowd.staying)
        wanted = self.scaler.decide(now, len(self.queue) + self.in_flight, current)
        for _ in range(current, wanted):
            self.later(now + self.scenario.workers.start_seconds, "open", self.crowd.add(now))
        for _ in range(wanted, current):
            self.crowd.remove(now)
        self.outcome.most_workers = max(self.outcome.most_workers, wanted, current)
        self.later(now + self.scenario.scaling.sync_seconds, "scale")

    def summed(self) -> Outcome:
        for pod in self.crowd.pods:
            ended = min(pod.ended, self.outcome.ended)
            self.outcome.worker_seconds += max(0.0, ended - pod.created)
            self.outcome.open_seconds += max(0.0, ended - pod.began)
        return self.outcome


def simulate(scenario: Scenario, trace: Iterable[float] | None = None) -> Outcome:
    return Simulation(scenario, trace).run()
