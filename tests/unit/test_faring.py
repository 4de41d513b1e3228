"""How a message fares: its limits, and what is made of its view in the end."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from fixtures.clock import played

from backtalk.runtime.cancelled import cancelled
from backtalk.runtime.faring import check_deadline, internal, limit, outcome, sent_away, standing
from backtalk.runtime.model import Completion
from backtalk.runtime.settle import Outcome
from backtalk.runtime.store import NoStore
from backtalk.runtime.view import View, limit_of, stopped
from backtalk.transport.envelope import ATTEMPT, Envelope
from backtalk.wire.errors import BacktalkError, Closed, Code, Refused, Stopped, Unavailable

AWAY = Unavailable(Code.UPSTREAM_UNAVAILABLE, "away", retry_after=7)
CLOSED = Closed(Code.UPSTREAM_UNAVAILABLE, "closed", retry_after=30)
REFUSED = Refused(Code.UPSTREAM_REJECTED, "no")


class Models:
    """Endpoints that answer as told, one reply after the other; `closed` is whether none takes calls."""

    def __init__(self, *replies, closed=False):
        self.replies = list(replies)
        self.closed = closed

    def check(self, endpoint):
        pass

    async def complete(self, endpoint, body, owner, listener=None):
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


FINE = Completion({"choices": [{"message": {"content": "fine"}}]})


async def fared(*replies, ended=None, closed=False, deadline=None, safe=False):
    """Return the view of a message that asked for so many replies, and was ended then."""
    now = asyncio.get_running_loop().time()
    view = View(Models(*replies, closed=closed), limit_of(now, 60, deadline))
    record = await NoStore().open("key", "id")
    view.record = type("Record", (type(record),), {"safe": safe})()
    for at, _ in enumerate(replies):
        try:
            await view.complete("openai", {"model": "m"}, place=str(at))
        except BacktalkError:
            continue
    if ended is not None:
        view.end(ended)
    return view


@pytest.mark.parametrize(
    ("replies", "facts", "expected"),
    [
        ([], {}, Outcome()),
        ([REFUSED], {}, Outcome()),
        ([FINE, REFUSED], {}, Outcome(paid=True)),
        ([FINE, REFUSED], {"safe": True}, Outcome(paid=True, remembered=True)),
        ([AWAY], {}, Outcome(retry_after=7)),
        ([FINE, AWAY], {}, Outcome(paid=True, retry_after=7)),
        # the last one to say so is heard
        ([AWAY, CLOSED], {}, Outcome(retry_after=30, closed=True)),
        ([CLOSED, AWAY], {}, Outcome(retry_after=7)),
        ([CLOSED], {"closed": True}, Outcome(retry_after=30, closed=True, idle=True)),
        # nobody takes calls, but this message was not sent away for it
        ([AWAY], {"closed": True}, Outcome(retry_after=7)),
        ([REFUSED], {"closed": True}, Outcome()),
        ([AWAY], {"ended": stopped}, Outcome(retry_after=7, stopped=True)),
        ([FINE], {"ended": stopped}, Outcome(paid=True, stopped=True)),
        # nobody waits for another try of what its sender ended
        ([AWAY], {"ended": cancelled}, Outcome()),
        ([FINE, CLOSED], {"ended": cancelled, "closed": True}, Outcome(paid=True)),
        ([AWAY], {"deadline": 20.0}, Outcome(retry_after=7, until_deadline=20)),
        ([AWAY], {"deadline": 90.0}, Outcome(retry_after=7)),
    ],
    # functions have addresses, which differ from process to process
    ids=map(str, range(17)),
)
@pytest.mark.parametrize("status", ["failed", "partial"])
@played
async def test_what_became_of_a_view_is_told_as_facts(replies, facts, expected, status):
    """Paid, remembered, away, closed, idle, stopped, and how long there is."""
    assert outcome(await fared(*replies, **facts), status) == expected


@pytest.mark.parametrize(
    "facts",
    [{}, {"ended": stopped}, {"ended": cancelled}, {"closed": True}, {"deadline": 1.0}],
    ids=map(str, range(5)),
)
async def test_what_is_completed_asks_for_nothing_more(facts):
    """A call that failed on the way, or a stop that came late, changes nothing about it."""
    assert outcome(await fared(FINE, AWAY, **facts), "completed") == Outcome(paid=True)


def test_what_was_never_understood_is_for_people():
    """It had no view of any model."""
    assert outcome(None) == Outcome(unreadable=True)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Stopped(Code.CANCELLED, "stopped"), Outcome(stopped=True)),
        (Unavailable(Code.UPSTREAM_TIMEOUT, "no room"), Outcome(retry_after=0.0, closed=True)),
    ],
)
def test_what_nobody_had_room_for_is_not_to_blame(error, expected):
    """It is handed back at the end, and put off at no cost before."""
    assert sent_away(error) == expected


@pytest.mark.parametrize(("timestamp", "age"), [(None, 0.0), (0.0, 0.0), (-100.0, 100.0), (3600.0, -3600.0)])
def test_a_message_is_as_old_as_its_sender_says(timestamp, age):
    """One that says nothing is new."""
    stamped = timestamp and time.time() + timestamp
    told = standing(Envelope(b"", timestamp=stamped, headers={ATTEMPT: 3}))
    assert told.attempt == 3
    assert told.age == pytest.approx(age, abs=5)


def in_seconds(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "at", "by_deadline"), [(None, 60, False), (10, 10, True), (90, 60, False), (-5, -5, True)]
)
async def test_the_first_of_deadline_and_budget_ends_a_message(seconds, at, by_deadline):
    """And it is known which of them it was."""
    ends = limit(None if seconds is None else in_seconds(seconds), 60)
    assert ends.at - asyncio.get_running_loop().time() == pytest.approx(at, abs=1)
    assert (ends.budget, ends.by_deadline) == (60, by_deadline)


def test_a_message_that_comes_late_is_refused():
    """One without a deadline never is."""
    check_deadline(None)
    check_deadline(in_seconds(5))
    with pytest.raises(Refused, match="had passed before the work began") as caught:
        check_deadline(in_seconds(-0.001))
    assert caught.value.error.code == "deadline_exceeded"


def test_what_broke_the_worker_says_nothing_of_the_cause():
    """That stands in the log; sent again it may be understood by a worker that was mended."""
    assert (internal().code, internal().retryable, internal().details) == ("internal", True, {})
