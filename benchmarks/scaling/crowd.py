"""The workers of a simulation: each takes so many messages at once, in turns, and finishes what it has when it goes."""

from collections import deque
from dataclasses import dataclass, field
from math import inf


@dataclass(slots=True)
class Pod:
    """One worker, from when it was asked for; it takes messages while it has room and does not drain."""

    created: float
    room: int
    busy: int = 0
    ready: bool = False
    draining: bool = False
    cpu_free: float = 0.0
    began: float = inf
    ended: float = inf


@dataclass
class Crowd:
    """All workers; the broker gives them messages in turns, those with room alone."""

    concurrency: int
    pods: list[Pod] = field(default_factory=list)
    turns: deque[Pod] = field(default_factory=deque)
    staying: list[Pod] = field(default_factory=list)

    def add(self, now: float) -> Pod:
        pod = Pod(now, self.concurrency)
        self.pods.append(pod)
        self.staying.append(pod)
        return pod

    def open(self, pod: Pod, now: float) -> None:
        """It consumes from now on, unless it was told to go before."""
        if not pod.draining:
            pod.ready, pod.began = True, now
            self.turns.append(pod)

    def remove(self, now: float) -> None:
        """The youngest goes, as Kubernetes chooses; what it has it finishes."""
        pod = self.staying.pop()
        pod.draining = True
        if not pod.busy:
            pod.ended = now

    def take(self) -> Pod | None:
        """The worker whose turn it is, with one message more; None when nobody has room."""
        while self.turns:
            pod = self.turns.popleft()
            if pod.draining or not pod.room:
                continue
            pod.room -= 1
            pod.busy += 1
            if pod.room:
                self.turns.append(pod)
            return pod
        return None

    def finish(self, pod: Pod, now: float) -> None:
        pod.room += 1
        pod.busy -= 1
        if pod.draining:
            if not pod.busy:
                pod.ended = now
        elif pod.room == 1:
            self.turns.append(pod)
