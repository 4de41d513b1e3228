"""Everything that `backtalk top` shows: pure functions of what was seen of queues and workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from backtalk.operate.levels import Levels
from backtalk.operate.lines import QueueLine, TroubleLine, View, WorkerLine
from backtalk.operate.management import Level
from backtalk.operate.measures import latency, share
from backtalk.operate.model_lines import PricesOf, model_lines
from backtalk.operate.rates import Snapshot, merged, rates, summed, total
from backtalk.operate.scrape import Samples, Scraped

_MINUTE: Final = 60.0
_ENDS: Final = ("completed", "partial", "failed")
# what is counted, by which label its place and its reason are told, and how a person says it
_TROUBLES: Final = (
    ("backtalk_retries_total", "queue", "reason", "job put off"),
    ("backtalk_model_retries_total", "endpoint", "reason", "call tried again"),
    ("backtalk_calls_paid_twice_total", "queue", "", "call paid twice"),
    ("backtalk_publish_failures_total", "queue", "", "answer not published"),
)


def view(
    namespace: str, levels: Levels, looks: Sequence[Snapshot], prices: PricesOf, *, note: str | None = None
) -> View:
    """Return what to show of the queues now and of all looks at the workers, the last of which is now."""
    now = looks[-1]
    per_second = rates(looks)
    paces = merged(per_second.values()) if per_second else None
    each = [one.samples for one in now.workers]
    return View(
        namespace,
        now.at - looks[0].at,
        tuple(_queue(name, level, seen=levels.seen) for name, level in levels.queues.items()),
        tuple(_worker(one, per_second.get(one.worker)) for one in now.workers),
        model_lines(each, paces, prices),
        tuple(_troubles(merged(each), paces)),
        (*levels.notes, *((note,) if note else ())),
    )


def _queue(name: str, level: Level | None, *, seen: bool) -> QueueLine:
    if level is None:
        return QueueLine(name, None if not seen else False, None, None, None, None, None)
    return QueueLine(
        name=name,
        there=True,
        ready=level.ready,
        unacked=level.unacked,
        in_rate=level.in_rate,
        out_rate=level.out_rate,
        consumers=level.consumers,
    )


def _worker(one: Scraped, pace: Samples | None) -> WorkerLine:
    if one.problem is not None:
        return WorkerLine(one.worker, "", "", 0, None, None, None, None, up=False, problem=one.problem)
    samples = one.samples
    ((role, version), *_) = summed(samples, "backtalk_build_info", "role", "version") or {("", ""): 0}
    up = summed(samples, "backtalk_consumer_up", "queue")
    lag = summed(samples, "backtalk_event_loop_lag_seconds")
    return WorkerLine(
        one.worker,
        role,
        version,
        int(total(samples, "backtalk_jobs_in_flight")),
        None if pace is None else _ended(pace),
        share(pace, samples, part=_failed, whole=_ended),
        latency(pace, samples, 0.95, "backtalk_queue_wait_seconds"),
        lag.get(()),
        up=bool(up) and all(value > 0 for value in up.values()),
        problem=None,
    )


def _ended(samples: Samples) -> float:
    outcomes = summed(samples, "backtalk_jobs_total", "outcome")
    return sum(outcomes.get((one,), 0.0) for one in _ENDS)


def _failed(samples: Samples) -> float:
    return total(samples, "backtalk_jobs_total", outcome="failed")


def _troubles(totals: Samples, paces: Samples | None) -> Iterator[TroubleLine]:
    """Yield what went wrong, the most frequent of each kind first."""
    jobs = _counted(totals, paces, "backtalk_jobs_total", ("queue", "code", "outcome"))
    yield from (one for one in jobs if one.what != "job completed" and (one.code or one.what == "job failed"))
    for name, where, code, what in _TROUBLES:
        yield from _counted(totals, paces, name, (where, code), what)


def _counted(
    totals: Samples, paces: Samples | None, name: str, labels: tuple[str, ...], what: str = ""
) -> list[TroubleLine]:
    found = summed(totals, name, *labels)
    lately = summed(paces, name, *labels) if paces is not None else None
    return [
        TroubleLine(
            what or f"job {told[2].replace('_', ' ')}",
            told[0],
            told[1],
            int(count),
            None if lately is None else lately.get(told, 0.0) * _MINUTE,
        )
        for told, count in sorted(found.items(), key=lambda one: (-one[1], one[0]))
        if count
    ]
