"""What becomes of a delivery: the whole decision as one table."""

from itertools import product

import pytest

from backtalk.runtime.settle import HandBack, Outcome, Patience, Reply, Rung, Standing, decide

PATIENCE = Patience(attempts=5, age=86_400)
TRIES = {
    "first try": Standing(0, 0),
    "fourth try": Standing(3, 86_399),
    "last try": Standing(4, 0),
    "beyond": Standing(9, 0),
    "too old": Standing(0, 86_400),
}
RETRIES = {
    "no retry": None,
    "retry": 0.0,
    "retry in 25 s": 25.0,
    "retry in 5 min": 300.0,
    "retry in 2 h": 7200.0,
}

# where nothing was paid that is not remembered, nothing stopped and the message could be read: what is asked, on which try
RUNGS = {
    ("retry", "first try"): Rung("5s"),
    ("retry in 25 s", "first try"): Rung("30s"),
    ("retry in 5 min", "first try"): Rung("10m"),
    ("retry in 2 h", "first try"): Rung("10m"),
    ("retry", "fourth try"): Rung("10m"),
    ("retry in 25 s", "fourth try"): Rung("10m"),
    ("retry in 5 min", "fourth try"): Rung("10m"),
    ("retry in 2 h", "fourth try"): Rung("10m"),
}


def expected(*, paid, remembered, stopped, unreadable, retry, tried):
    if unreadable:
        return Reply(file=True)
    if paid and not remembered:
        return Reply()
    if stopped:
        return HandBack()
    return RUNGS.get((retry, tried), Reply())


@pytest.mark.parametrize("tried", TRIES)
@pytest.mark.parametrize("retry", RETRIES)
@pytest.mark.parametrize("unreadable", [False, True], ids=["readable", "unreadable"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
@pytest.mark.parametrize("remembered", [False, True], ids=["forgotten", "remembered"])
@pytest.mark.parametrize("paid", [False, True], ids=["unpaid", "paid"])
def test_every_outcome_has_one_action(paid, remembered, stopped, unreadable, retry, tried):
    """Unreadable is filed, paid is answered, stopped is handed back, down is tried again, within patience.

    What was paid is as good as unpaid where the result store has it: the next try gets it from there.
    """
    facts = {"paid": paid, "remembered": remembered, "stopped": stopped, "unreadable": unreadable}
    outcome = Outcome(retry_after=RETRIES[retry], **facts)
    assert expected(retry=retry, tried=tried, **facts) == decide(outcome, TRIES[tried], PATIENCE)


@pytest.mark.parametrize(("attempt", "rung"), list(enumerate(["5s", "30s", "2m", "10m", "10m", "10m"])))
def test_each_try_waits_longer_than_the_last(attempt, rung):
    """The rungs are climbed one by one, and the last is used again and again."""
    assert decide(Outcome(retry_after=0), Standing(attempt, 0), Patience(99, 1e9)) == Rung(rung)


def test_a_message_may_be_tried_as_often_as_patience_says():
    """The first try counts: five tries are four rungs."""
    actions = [decide(Outcome(retry_after=0), Standing(attempt, 0), PATIENCE) for attempt in range(6)]
    assert [isinstance(action, Rung) for action in actions] == [True] * 4 + [False] * 2


def test_one_try_means_no_retry():
    """Whoever allows one try gets the answer of the first."""
    assert decide(Outcome(retry_after=0), Standing(0, 0), Patience(1, 1e9)) == Reply()


def test_nothing_is_ever_just_dropped():
    """Every combination of facts ends in an answer, a later try, or another worker."""
    facts = product([False, True], [None, 0.0, 1e9], [False, True], [False, True], [None], [False, True])
    for told, standing in product(facts, TRIES.values()):
        action = decide(Outcome(*told), standing, PATIENCE)
        assert isinstance(action, Reply | Rung | HandBack)


@pytest.mark.parametrize(
    ("left", "action"),
    [(None, Rung("5s")), (60.0, Rung("5s")), (5.0, Reply()), (0.5, Reply()), (-1.0, Reply())],
)
def test_no_try_comes_after_the_deadline(left, action):
    """A sender hears at once what it would otherwise hear too late."""
    outcome = Outcome(retry_after=0, until_deadline=left)
    assert decide(outcome, Standing(0, 0), PATIENCE) == action


# ---- endpoints that take no calls


CLOSED = {
    # what nobody's attempt is to blame for costs none, and climbs no rung
    ("closed", "first try"): Rung("30s", counts=False),
    ("closed", "fourth try"): Rung("30s", counts=False),
    ("closed", "last try"): Rung("30s", counts=False),
    ("closed", "beyond"): Rung("30s", counts=False),
    # it waits in the queue, and so does the worker
    **{("idle", tried): HandBack() for tried in ("first try", "fourth try", "last try", "beyond")},
}


@pytest.mark.parametrize("tried", TRIES)
@pytest.mark.parametrize("closed", ["closed", "idle"])
def test_a_closed_endpoint_costs_no_attempt(closed, tried):
    """One of several puts off, all of them hand back; patience with age ends both."""
    outcome = Outcome(retry_after=30.0, closed=True, idle=closed == "idle")
    assert decide(outcome, TRIES[tried], PATIENCE) == CLOSED.get((closed, tried), Reply())


@pytest.mark.parametrize("tried", ["first try", "beyond"])
def test_a_worker_that_does_not_wait_puts_off_what_an_idle_one_hands_back(tried):
    """A process for one message takes no more: handed back, the message would come again at once, for ever."""
    outcome = Outcome(retry_after=30.0, closed=True, idle=True)
    patience = Patience(attempts=5, age=86_400, waits=False)
    assert decide(outcome, TRIES[tried], patience) == Rung("30s", counts=False)


@pytest.mark.parametrize(
    ("seconds", "rung"), [(0.0, "5s"), (5.0, "5s"), (6.0, "30s"), (31.0, "2m"), (60.0, "2m"), (1e9, "10m")]
)
def test_a_closed_endpoint_is_waited_for_as_long_as_it_says(seconds, rung):
    """Not as long as the attempts would have it."""
    action = decide(Outcome(retry_after=seconds, closed=True), Standing(3, 0), PATIENCE)
    assert action == Rung(rung, counts=False)


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        ({"paid": True}, Reply()),
        ({"paid": True, "remembered": True}, HandBack()),
        ({"stopped": True}, HandBack()),
        ({"unreadable": True}, Reply(file=True)),
        ({"until_deadline": 1.0}, HandBack()),
        ({"until_deadline": 1.0, "idle": False}, Reply()),
        ({"until_deadline": 31.0, "idle": False}, Rung("30s", counts=False)),
        ({"retry_after": None}, Reply()),
    ],
    ids=str,
)
def test_what_was_paid_stopped_or_unreadable_comes_before_what_is_closed(facts, action):
    """And a deadline is answered rather than put off beyond."""
    outcome = Outcome(**{"retry_after": 30.0, "closed": True, "idle": True, **facts})
    assert decide(outcome, Standing(0, 0), PATIENCE) == action


def test_an_ordinary_try_counts():
    """It is the usual case, and the attempt is what the rung is climbed by."""
    assert decide(Outcome(retry_after=0.0), Standing(0, 0), PATIENCE) == Rung("5s", counts=True)
