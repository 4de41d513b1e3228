"""The view that one message has of the models: its limit, its stop, what it has paid, and what it recalls."""

import asyncio

import pytest

from backtalk.runtime.gate import FairGate
from backtalk.runtime.model import Completion
from backtalk.runtime.view import View, limit_of, stopped
from backtalk.wire.errors import BacktalkError, Code, Refused, Stopped, Unavailable

BODY = {"model": "m", "messages": []}
FINE = Completion({"choices": [{"message": {"content": "fine"}}], "usage": {"total_tokens": 3}})
UNAVAILABLE = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down", retry_after=7)
REFUSED = Refused(Code.UPSTREAM_REJECTED, "no")


class Endpoint:
    """An adapter whose calls wait until the gate opens, and then end as told; `linger` delays being cancelled."""

    def __init__(self, outcome=FINE, *, opened=True, linger=None):
        self.outcome = outcome
        self.open = asyncio.Event()
        self.linger = linger
        self.owners = []
        self.listeners = []
        if opened:
            self.open.set()

    def check(self, endpoint):
        if endpoint != "openai":
            raise REFUSED

    async def complete(self, endpoint, body, owner, listener=None):
        self.owners.append(owner)
        self.listeners.append(listener)
        try:
            await self.open.wait()
        finally:
            if self.linger:
                await self.linger.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def view(endpoint, *, budget=60.0, deadline=None):
    return View(endpoint, limit_of(asyncio.get_running_loop().time(), budget, deadline))


async def ended(call):
    with pytest.raises(BacktalkError) as caught:
        await call
    return caught.value


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_call_goes_to_the_adapter_in_the_name_of_its_message():
    """The view itself is the owner of its calls, so the gate can be fair between messages."""
    endpoint = Endpoint()
    one, other = view(endpoint), view(endpoint)
    assert await one.complete("openai", BODY, place="here") is FINE
    assert await other.complete("openai", BODY, place="here") is FINE
    assert endpoint.owners == [one, other]
    assert one != other


async def test_whoever_listens_is_handed_to_the_adapter():
    """By place or by name; nobody listens unless somebody was named."""
    endpoint, listener = Endpoint(), object()
    one = view(endpoint)
    await one.complete("openai", BODY, place="here")
    await one.complete("openai", BODY, listener, place="here")
    await one.complete("openai", BODY, listener=listener, place="here")
    assert endpoint.listeners == [None, listener, listener]
    assert one.paid == 3


async def test_a_call_that_somebody_hears_ends_at_the_limit_like_any_other():
    """What was heard so far is no completion, and not paid."""
    one = view(Endpoint(opened=False), budget=0.01)
    error = await ended(one.complete("openai", BODY, object(), place="here"))
    assert error.error.code == Code.UPSTREAM_TIMEOUT
    assert one.paid == 0


async def test_an_unknown_endpoint_is_refused_by_the_adapter():
    """What is configured is known behind the view."""
    with pytest.raises(Refused):
        view(Endpoint()).check("elsewhere")


async def test_complete_answers_are_counted_as_paid():
    """Only what came back whole was paid for."""
    endpoint = Endpoint()
    one = view(endpoint)
    await one.complete("openai", BODY, place="here")
    await one.complete("openai", BODY, place="here")
    endpoint.outcome = UNAVAILABLE
    await ended(one.complete("openai", BODY, place="here"))
    assert one.paid == 2


async def test_an_endpoint_that_is_down_is_remembered():
    """The worker decides on a later try from what the view has seen."""
    one = view(Endpoint(UNAVAILABLE))
    assert await ended(one.complete("openai", BODY, place="here")) is UNAVAILABLE
    assert one.unavailable is UNAVAILABLE


async def test_a_refusal_earns_no_later_try():
    """What the endpoint rejects it will reject again."""
    one = view(Endpoint(REFUSED))
    assert await ended(one.complete("openai", BODY, place="here")) is REFUSED
    assert one.unavailable is None


@pytest.mark.parametrize(
    ("budget", "deadline", "code", "retried"),
    [
        (0.01, None, Code.UPSTREAM_TIMEOUT, True),
        (0.01, 60.0, Code.UPSTREAM_TIMEOUT, True),
        (60.0, 0.01, Code.DEADLINE_EXCEEDED, False),
        (60.0, 0.0, Code.DEADLINE_EXCEEDED, False),
        (60.0, -5.0, Code.DEADLINE_EXCEEDED, False),
    ],
)
async def test_what_ends_first_says_why(budget, deadline, code, retried):
    """The worker's budget may be met by a later try, the sender's deadline may not."""
    one = view(Endpoint(opened=False), budget=budget, deadline=deadline)
    error = await ended(one.complete("openai", BODY, place="here"))
    assert error.error.code == code
    assert (one.unavailable is not None) is retried
    assert one.paid == 0


def test_the_limit_is_in_the_loops_time():
    """Whichever is sooner, counted from now."""
    assert limit_of(100.0, 30.0, None).at == 130.0
    assert limit_of(100.0, 30.0, 10.0).at == 110.0
    assert limit_of(100.0, 30.0, 50.0).at == 130.0


async def test_all_calls_of_a_message_end_at_its_limit():
    """Calls inside the gate and calls in line for it end together, and each says the same."""
    gate = FairGate(2)

    class Gated(Endpoint):
        async def complete(self, endpoint, body, owner, listener=None):
            await gate.enter(owner)
            try:
                return await super().complete(endpoint, body, owner, listener)
            finally:
                gate.leave()

    endpoint = Gated(opened=False)
    one = view(endpoint, budget=0.01)
    calls = [asyncio.create_task(one.complete("openai", BODY, place="here")) for _ in range(6)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [Unavailable] * 6
    endpoint.open.set()
    assert await view(endpoint).complete("openai", BODY, place="here") is FINE


async def test_a_stopped_message_ends_its_calls_and_makes_no_more():
    """Stopping raises in the view, for calls under way and for calls to come."""
    endpoint = Endpoint(opened=False)
    one, other = view(endpoint), view(endpoint)
    call = asyncio.create_task(one.complete("openai", BODY, place="here"))
    untouched = asyncio.create_task(other.complete("openai", BODY, place="here"))
    await settle()
    one.end(stopped)
    assert isinstance(await ended(call), Stopped)
    assert isinstance(await ended(one.complete("openai", BODY, place="here")), Stopped)
    assert (one.stopped, one.unavailable, other.stopped) == (True, None, False)
    endpoint.open.set()
    assert await untouched is FINE


async def test_a_stop_keeps_what_was_paid():
    """What had come back before still counts."""
    one = view(Endpoint())
    await one.complete("openai", BODY, place="here")
    one.end(stopped)
    await ended(one.complete("openai", BODY, place="here"))
    assert one.paid == 1


async def test_a_message_can_be_stopped_twice():
    """The second time changes nothing."""
    one = view(Endpoint(opened=False, linger=asyncio.Event()))
    call = asyncio.create_task(one.complete("openai", BODY, place="here"))
    await settle()
    one.end(stopped)
    await settle()
    one.end(stopped)
    one._adapter.linger.set()
    assert isinstance(await ended(call), Stopped)


async def test_a_message_can_be_stopped_while_its_limit_ends_it():
    """A call that is still closing its connection when the drain ends disturbs nobody."""
    one = view(Endpoint(opened=False, linger=asyncio.Event()), budget=0.01)
    call = asyncio.create_task(one.complete("openai", BODY, place="here"))
    await asyncio.sleep(0.03)
    one.end(stopped)
    one._adapter.linger.set()
    assert isinstance(await ended(call), BacktalkError)


async def test_cancelling_the_caller_is_no_timeout():
    """A cancellation from outside stays one."""
    call = asyncio.create_task(view(Endpoint(opened=False)).complete("openai", BODY, place="here"))
    await settle()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


# ---- what is remembered


class Notes:
    """A record that has what it was given, and whose notes may fail; `order` tells what came when."""

    answer = None
    safe = True

    def __init__(self, *known, fails=False, order=None):
        self.known = dict.fromkeys(known, FINE)
        self.fails = fails
        self.order = [] if order is None else order

    def entry(self, endpoint, body, place):
        return f"{endpoint} {place}".encode()

    def recall(self, entry):
        return self.known.get(entry)

    async def remember(self, entry, completion):
        await asyncio.sleep(0)
        self.order.append((entry, completion))
        self.safe = not self.fails


def remembering(endpoint, record, **limit):
    one = view(endpoint, **limit)
    one.record = record
    return one


async def test_a_call_that_was_paid_before_is_not_made_again():
    """It counts as paid: the answer is the same as without the crash."""
    endpoint = Endpoint()
    one = remembering(endpoint, Notes(b"openai here"))
    assert await one.complete("openai", BODY, place="here") is FINE
    assert await one.complete("openai", BODY, place="there") is FINE
    assert (len(endpoint.owners), one.paid) == (1, 2)


async def test_what_was_paid_is_remembered_before_it_is_used():
    """Whoever gets a completion may rely on that it is kept."""
    order = []
    one = remembering(Endpoint(), Notes(order=order))
    order.append(await one.complete("openai", BODY, place="here"))
    assert order == [(b"openai here", FINE), FINE]


async def test_what_failed_is_not_remembered():
    """It is asked again."""
    order = []
    await ended(remembering(Endpoint(UNAVAILABLE), Notes(order=order)).complete("openai", BODY, place="x"))
    assert order == []


async def test_a_store_that_forgets_fails_no_call():
    """The record tells it, and the worker decides by it."""
    one = remembering(Endpoint(), Notes(fails=True))
    assert await one.complete("openai", BODY, place="here") is FINE
    assert (one.paid, one.record.safe) == (1, False)


async def test_a_message_without_a_store_remembers_nothing_and_is_not_safe():
    """It must be answered once something was paid."""
    one = view(Endpoint())
    await one.complete("openai", BODY, place="here")
    assert one.record.safe is False


async def test_a_stopped_message_still_recalls():
    """What is there costs nothing and takes no time."""
    one = remembering(Endpoint(opened=False), Notes(b"openai here"))
    one.end(stopped)
    assert await one.complete("openai", BODY, place="here") is FINE


@pytest.mark.parametrize(
    ("deadline", "code"), [(None, Code.UPSTREAM_TIMEOUT), (0.01, Code.DEADLINE_EXCEEDED)]
)
async def test_whatever_a_message_waits_for_ends_at_its_limit(deadline, code):
    """The error says for what there was too little time, and whether a later try may help."""
    one = view(Endpoint(), budget=0.01 if deadline is None else 60, deadline=deadline)
    with pytest.raises(BacktalkError) as caught:
        async with one.waiting("another worker was not done"):
            await asyncio.Event().wait()
    assert caught.value.error.code == code
    assert (one.unavailable is caught.value) is (deadline is None)
    assert ("another worker was not done" in str(caught.value)) is (deadline is None)


async def test_a_stop_ends_whatever_a_message_waits_for():
    """Now and later."""
    one = view(Endpoint())

    async def wait():
        async with one.waiting("nothing came"):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await settle()
    one.end(stopped)
    for call in (waiting, wait()):
        assert isinstance(await ended(call), Stopped)


@pytest.mark.parametrize(("outcome", "undisturbed"), [(FINE, True), (REFUSED, True), (UNAVAILABLE, False)])
async def test_what_failed_for_now_makes_no_finished_answer(outcome, undisturbed):
    """An answer without a call that may come the next time is not the one to be remembered."""
    one = view(Endpoint(outcome))
    try:
        await one.complete("openai", BODY, place="here")
    except BacktalkError:
        assert outcome is not FINE
    assert one.undisturbed is undisturbed
    one.end(stopped)
    assert not one.undisturbed


async def test_a_message_is_over_at_its_limit_and_with_the_drain():
    """Work that waits for nothing can ask."""
    assert view(Endpoint()).over("it was not done") is None
    late = view(Endpoint(), budget=0)
    assert late.over("it was not done").error.code == Code.UPSTREAM_TIMEOUT
    assert not late.undisturbed
    ended = view(Endpoint())
    ended.end(stopped)
    assert isinstance(ended.over("it was not done"), Stopped)
