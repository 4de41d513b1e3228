"""What Backtalk promises, held against what happened: a table of rules, each of which names the messages that break it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from benchmarks.chaos.keeper import Life
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.memory import Memory
from benchmarks.chaos.tolls import Tolls

CRASHED: Final = "worker_crashed"
# what ordinary work may fail of: the endpoint was in trouble for longer than its patience
_ENDPOINT: Final = frozenset({"upstream_unavailable", "upstream_timeout"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run has to show for itself; `left` is what the transient queues still hold."""

    ledger: Ledger
    lives: Sequence[Life]
    tolls: Tolls
    memories: Sequence[Memory]
    left: Mapping[str, int]
    store: bool


# one that is told to end before it listens has nothing in hand
_ENDS: Final[dict[signal.Signals | None, tuple[int | None, ...]]] = {signal.SIGTERM: (0, -signal.SIGTERM)}

Rule: TypeAlias = Callable[[Evidence], list[str]]


def _unanswered(evidence: Evidence) -> list[str]:
    return evidence.ledger.open


def _strangers(evidence: Evidence) -> list[str]:
    return [id for id in evidence.ledger.answers if id not in evidence.ledger.sent]


def _other_ids(evidence: Evidence) -> list[str]:
    answers = evidence.ledger.answers
    return [id for id, all_of in answers.items() if len({answer.message_id for answer in all_of}) > 1]


def _junk_gone(evidence: Evidence) -> list[str]:
    books = evidence.ledger
    return [
        id
        for id in books.confirmed
        if books.sent[id].kind == "junk" and id not in books.answers and id not in books.filed
    ]


def _survived(evidence: Evidence) -> list[str]:
    books = evidence.ledger
    deadly = [id for id in books.answers if id in books.sent and books.sent[id].kind == "deadly"]
    return [id for id in deadly if any(answer.code != CRASHED for answer in books.answers[id])]


def _innocent(evidence: Evidence) -> list[str]:
    return [id for id in _ordinary(evidence.ledger) if CRASHED in _codes(evidence.ledger, id)]


def _failed(evidence: Evidence) -> list[str]:
    books = evidence.ledger
    return [
        f"{id} ({', '.join(sorted(codes))})"
        for id in _ordinary(books)
        if (codes := _codes(books, id) - _ENDPOINT - {CRASHED})
    ]


def _paid_again(evidence: Evidence) -> list[str]:
    return list(evidence.tolls.unexplained) if evidence.store else []


def _fell_over(evidence: Evidence) -> list[str]:
    deadly = any(message.kind == "deadly" for message in evidence.ledger.sent.values())
    return [
        f"{life.name} (exit {life.code})"
        for life in evidence.lives
        if life.code not in _ENDS.get(life.told, (None,))
        and not (life.killed and (deadly or life.told == signal.SIGKILL))
    ]


def _grown(evidence: Evidence) -> list[str]:
    return [
        f"{memory.name} ({memory.first:.0f} to {memory.last:.0f} MiB)"
        for memory in evidence.memories
        if not memory.flat
    ]


def _left_over(evidence: Evidence) -> list[str]:
    return [f"{queue} ({count})" for queue, count in evidence.left.items()]


def _ordinary(books: Ledger) -> list[str]:
    return [id for id in books.answers if id in books.sent and books.sent[id].ordinary]


def _codes(books: Ledger, id: str) -> set[str]:
    return {answer.code for answer in books.answers[id] if answer.code}


PROMISES: Final[dict[str, Rule]] = {
    "every confirmed message is answered": _unanswered,
    "nothing is answered that was not sent": _strangers,
    "a repeat bears the id of the first answer": _other_ids,
    "junk is answered or filed": _junk_gone,
    "a deadly job is answered worker_crashed": _survived,
    "no other message is answered worker_crashed": _innocent,
    "ordinary work fails of nothing but its endpoint": _failed,
    "what the store remembers is not paid for again": _paid_again,
    "workers end only when told to, or of a deadly job": _fell_over,
    "the memory of long-lived workers is flat": _grown,
    "the queues are empty in the end": _left_over,
}


def broken(evidence: Evidence) -> dict[str, list[str]]:
    """Return the promises that were not kept, each with what shows it."""
    found = {promise: sorted(rule(evidence)) for promise, rule in PROMISES.items()}
    return {promise: shown for promise, shown in found.items() if shown}
