"""The limits a worker would run with here, against what the broker and this machine can bear."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from backtalk.operate.checks import Check, Status, number
from backtalk.transport.topology import CONSUMER_TIMEOUT_MS

# from 3.12 on a queue's own consumer timeout counts; before, the node's for all, of which AMQP tells nothing
OWN_TIMEOUT: Final = (3, 12)
NODE_TIMEOUT_SECONDS: Final = 1800.0
_NEAR: Final = 0.9
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What the settings of a worker say of memory, in bytes, and of time, in seconds."""

    memory_bound: int
    job_budget_seconds: float
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class NoWorkerLimits:
    """Why the settings are not known: they are wrong, or what reads them is not installed."""

    status: Status
    told: str
    remedy: str


def of_limits(limits: WorkerLimits | NoWorkerLimits, version: str | None) -> Iterable[Check]:
    """Return what is to be said; a broker that was not reached has no version."""
    if isinstance(limits, NoWorkerLimits):
        yield Check("settings", limits.status, limits.told, limits.remedy)
        return
    yield of_timeout(limits, version)
    yield of_memory(limits, _memory())
    yield of_drain(limits)


def of_timeout(limits: WorkerLimits, version: str | None) -> Check:
    name = "consumer timeout"
    if version is None:
        return Check(name, Status.UNKNOWN, "the broker was not reached", "reach the broker first")
    own = number(version) >= OWN_TIMEOUT
    timeout = CONSUMER_TIMEOUT_MS / 1000 if own else NODE_TIMEOUT_SECONDS
    longest = limits.job_budget_seconds + limits.drain_seconds
    whose = "that of the queues" if own else "the node's, where consumer_timeout is not set otherwise"
    told = f"a job may take {longest:g} s (budget and drain), the broker waits {timeout:g} s ({whose})"
    remedy = "lower BACKTALK_JOB_BUDGET_SECONDS or BACKTALK_DRAIN_SECONDS"
    if longest >= timeout:
        return Check(name, Status.FAILED, f"{told} and then takes the job away", remedy)
    if longest >= _NEAR * timeout:
        return Check(name, Status.WARNING, f"{told}: that is near", remedy)
    return Check(name, Status.OK, told)


def of_memory(limits: WorkerLimits, memory: int | None) -> Check:
    told = f"whatever is sent, a worker takes at most {limits.memory_bound // _MIB} MiB"
    if memory is not None and limits.memory_bound > memory:
        return Check(
            "memory",
            Status.WARNING,
            f"{told}; this machine has {memory // _MIB} MiB",
            "lower BACKTALK_MAX_BYTES_AT_ONCE or BACKTALK_CONCURRENCY, unless you trust all senders",
        )
    return Check("memory", Status.OK, told)


def of_drain(limits: WorkerLimits) -> Check:
    if limits.drain_seconds > 0:
        return Check(
            "drain", Status.OK, f"workers that are stopped have {limits.drain_seconds:g} s to finish"
        )
    return Check(
        "drain",
        Status.WARNING,
        "a worker that is stopped gives up what it is working on, and calls in flight are paid twice",
        "set BACKTALK_DRAIN_SECONDS to what most jobs take",
    )


def _memory() -> int | None:
    """Return the bytes of memory of this machine, where it tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
