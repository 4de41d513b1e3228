"""The report of a run: a table for people, the same as JSON for machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.chaos.keeper import Life
from benchmarks.chaos.promises import PROMISES, broken
from benchmarks.chaos.run import Outcome

_SHOWN: Final = 20


def figures(outcome: Outcome) -> dict[str, Any]:
    """Return the whole report as JSON writes it."""
    evidence = outcome.evidence
    books, tolls = evidence.ledger, evidence.tolls
    not_kept = broken(evidence)
    return {
        "seed": outcome.plan.seed,
        "store": outcome.plan.store,
        "rounds": outcome.faults.total(),
        "faults": dict(sorted(outcome.faults.items())),
        "seconds": round(outcome.seconds, 1),
        "quiet_after": round(outcome.quiet_after, 1),
        "confirmed": dict(Counter(books.sent[id].kind for id in books.confirmed)),
        "sent_again": books.sent_again,
        "answers": dict(books.statuses),
        "repeats": books.repeats,
        "failed_then_completed": len(books.changed),
        "filed": dict(Counter(books.filed.values())),
        "lost": len(books.open),
        "calls": tolls.calls,
        "paid_twice": tolls.twice,
        "in_flight_at_deaths": tolls.in_flight,
        "ends": dict(Counter(_end(life) for life in evidence.lives)),
        "memory": [
            [memory.name, round(memory.first, 1), round(memory.last, 1), round(memory.seconds)]
            for memory in evidence.memories
        ],
        "left": dict(evidence.left),
        "promises": {promise: promise not in not_kept for promise in PROMISES},
        "broken": not_kept,
    }


def table(told: Mapping[str, Any]) -> str:
    """Return the report as people read it."""
    rows = {
        "rounds": f"{told['rounds']} in {told['seconds']:g} s, all quiet {told['quiet_after']:g} s later",
        "faults": _listed(told["faults"]),
        "confirmed": _listed(told["confirmed"], total=True) + f"; {told['sent_again']} sent again",
        "answered": _listed(told["answers"], total=True),
        "repeats": f"{told['repeats']}, of which {told['failed_then_completed']} say something else",
        "filed": _listed(told["filed"], total=True),
        "lost": str(told["lost"]),
        "model calls": f"{told['calls']}, {told['paid_twice']} paid twice ({_bound(told)})",
        "workers": _listed(told["ends"]),
        "memory": _memory(told["memory"]),
        "seed": str(told["seed"]),
    }
    width = max(map(len, rows))
    lines = [f"{name.ljust(width)}  {value}" for name, value in rows.items()]
    return "\n".join([*lines, "", *_verdict(told["broken"])])


def _verdict(not_kept: Mapping[str, list[str]]) -> list[str]:
    if not not_kept:
        return [f"all {len(PROMISES)} promises kept"]
    return [f"BROKEN: {promise}: {_some(shown)}" for promise, shown in not_kept.items()]


def _some(shown: list[str]) -> str:
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _bound(told: Mapping[str, Any]) -> str:
    if not told["store"]:
        return "no result store"
    return f"at most the {told['in_flight_at_deaths']} in flight when workers died"


def _listed(counts: Mapping[str, int], *, total: bool = False) -> str:
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{sum(counts.values())}: {each}" if total and counts else each or "none"


def _memory(found: list[list[Any]]) -> str:
    longest = sorted(found, key=lambda each: -each[3])[:3]
    each = [f"{name} {first:.0f} to {last:.0f} MiB in {seconds} s" for name, first, last, seconds in longest]
    return ", ".join(each) or "no worker lived long enough to tell"


def _end(life: Life) -> str:
    return f"{life.told.name if life.told else 'by itself'} exit {life.code}"


def as_json(told: Mapping[str, Any]) -> str:
    return json.dumps(told, indent=2)
