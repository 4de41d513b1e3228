"""What becomes of a delivery once its work has ended: a pure decision on frozen facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from backtalk.transport.topology import RUNGS, rung_for


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work ended. `retry_after` is in seconds, None when nothing asks for a later try; `until_deadline` too.

    `paid`: at least one complete answer of an endpoint was received; `remembered`: the result store has all that was.
    `stopped`: the drain ended first. `closed`: an endpoint took no calls; `idle`: none of them does.
    `unreadable`: the message could not be decoded, or broke the handler; people should look at it.
    """

    paid: bool = False
    retry_after: float | None = None
    stopped: bool = False
    unreadable: bool = False
    until_deadline: float | None = None
    remembered: bool = False
    closed: bool = False
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How often and how long a message has been tried; `age` in seconds since its sender stamped it."""

    attempt: int
    age: float


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a message may be tried; `waits`: the worker takes no more while it is idle."""

    attempts: int
    age: float
    waits: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """Publish the answer; `file` a copy of the request in the dead queue as well."""

    file: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """Try the message again later: it waits on the named rung; `counts` as an attempt, or does not."""

    name: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class HandBack:
    """Give the message to another worker, now, as if it had never been here."""


Action: TypeAlias = Reply | Rung | HandBack
# as logs and traces call them
TOLD: Final = {Reply: "answered", Rung: "put off", HandBack: "handed back"}


def decide(outcome: Outcome, standing: Standing, patience: Patience) -> Action:
    """Return what to do with a delivery. Work already paid is never thrown away: it is answered, or remembered."""
    if outcome.unreadable or (outcome.paid and not outcome.remembered):
        return Reply(file=outcome.unreadable)
    if outcome.stopped:
        return HandBack()
    if outcome.retry_after is None or standing.age >= patience.age:
        return Reply()
    if outcome.closed:
        # the message is not to blame, and no try of it is spent
        waits = outcome.idle and patience.waits
        return HandBack() if waits else _put_off(rung_for(outcome.retry_after), outcome, counts=False)
    if standing.attempt + 1 >= patience.attempts:
        return Reply()
    return _put_off(rung_for(max(outcome.retry_after, _usual_wait(standing.attempt))), outcome, counts=True)


def _put_off(rung: str, outcome: Outcome, *, counts: bool) -> Action:
    """Have a message wait for its next try, if that comes in time."""
    late = outcome.until_deadline is not None and outcome.until_deadline <= RUNGS[rung]
    return Reply() if late else Rung(rung, counts)


def _usual_wait(attempt: int) -> float:
    waits = list(RUNGS.values())
    return waits[min(attempt, len(waits) - 1)]
