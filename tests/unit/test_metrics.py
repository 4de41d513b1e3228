"""What a worker counts: under which names and labels, and that nobody outside can make more of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from backtalk.runtime.answered import BadBody
from backtalk.runtime.health import BEATS_REMEMBERED, Heart
from backtalk.runtime.metrics import LONGEST_WAIT, Metrics
from backtalk.runtime.model_metrics import MOST_MODELS, OTHER, ModelNames, reason
from backtalk.runtime.settle import HandBack, Reply, Rung
from backtalk.runtime.suspects import Suspects
from backtalk.runtime.undertaker import Undertaker
from backtalk.transport.envelope import ATTEMPT, Delivery, Envelope
from backtalk.wire.errors import Closed, Code, Error, Refused, Unavailable
from backtalk.wire.jobs import CompletionResult
from backtalk.wire.kinds import FORWARD

UPSTREAM = Code.UPSTREAM_UNAVAILABLE


@pytest.fixture
def metrics():
    return Metrics("forward")


@pytest.fixture
def value(metrics):
    """Return how to read one sample: `value("jobs_total", outcome="completed", code="")`."""

    def read(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"backtalk_{name}", labels)

    return read


@pytest.fixture
def endpoint(metrics):
    return metrics.endpoint("openai", closed=lambda: False, in_flight=lambda: 3)


def answer(status="completed", code=None):
    error = code and Error(code=code, message="words", retryable=False)
    return CompletionResult(id="id", status=status, error=error)


def delivery(age=None, *, attempt=0, redelivered=False):
    sent = None if age is None else time.time() - age
    headers = {ATTEMPT: attempt} if attempt else {}

    async def ack() -> bool:
        return True

    return Delivery(Envelope(b"{}", timestamp=sent, headers=headers), "ns.forward", redelivered, ack)


@pytest.mark.parametrize(
    ("action", "told", "labels"),
    [
        (Reply(), answer(), {"outcome": "completed", "code": ""}),
        (Reply(), answer("partial", UPSTREAM), {"outcome": "partial", "code": "upstream_unavailable"}),
        (Reply(file=True), answer("failed", Code.INTERNAL), {"outcome": "failed", "code": "internal"}),
        (Rung("5s"), answer("failed", UPSTREAM), {"outcome": "put_off", "code": "upstream_unavailable"}),
        (HandBack(), answer("failed", Code.CANCELLED), {"outcome": "handed_back", "code": "cancelled"}),
    ],
    ids=["completed", "partial", "failed", "put off", "handed back"],
)
def test_what_became_of_a_message_is_counted_once(metrics, value, action, told, labels):
    """By what was done with it; only an answer has a duration, and only what was put off is a retry."""
    metrics.settled(action, told, time.monotonic() - 0.2)
    assert value("jobs_total", queue="forward", **labels) == 1
    counted = [
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "backtalk_jobs_total"
    ]
    assert sum(counted) == 1
    answered = isinstance(action, Reply)
    assert value("job_duration_seconds_count", queue="forward") == answered
    assert value("job_duration_seconds_bucket", queue="forward", le="0.1") == 0
    assert value("job_duration_seconds_bucket", queue="forward", le="1.0") == answered
    put_off = value("retries_total", queue="forward", reason="upstream_unavailable")
    assert put_off == (1 if isinstance(action, Rung) else None)


def test_series_that_alerts_divide_by_begin_at_zero(value):
    """A rate does not see the first of what was not there before."""
    assert value("jobs_total", queue="forward", outcome="completed", code="") == 0
    for code in Code:
        assert value("jobs_total", queue="forward", outcome="failed", code=code.value) == 0
    assert value("publish_failures_total", queue="forward") == 0


@pytest.mark.parametrize(
    ("given", "count", "seconds"),
    [
        ({"age": 40}, 1, 40),
        ({"age": -30}, 1, 0),
        ({"age": 1e9}, 1, LONGEST_WAIT),
        ({}, 0, 0),
        ({"age": 40, "attempt": 1}, 0, 0),
        ({"age": 40, "redelivered": True}, 0, 0),
    ],
    ids=["waited", "a clock ahead", "1995", "no time", "a later attempt", "a redelivery"],
)
def test_the_wait_in_the_queue_is_that_of_first_attempts(metrics, value, given, count, seconds):
    """Whatever time a sender stamps, the sum stays one of waits."""
    began = metrics.took(delivery(**given))
    assert abs(time.monotonic() - began) < 5
    assert value("queue_wait_seconds_count", queue="forward") == count
    assert value("queue_wait_seconds_sum", queue="forward") == pytest.approx(seconds, abs=5)


def test_only_models_that_answered_have_a_name_and_not_more_than_a_hundred():
    """Senders name models, and some endpoints take every name."""
    names = ModelNames()
    assert names.failed("m0") == OTHER
    assert [names.answered(f"m{at}") for at in range(MOST_MODELS)] == [f"m{at}" for at in range(MOST_MODELS)]
    assert names.failed("m0") == "m0"
    assert names.answered("one more") == OTHER
    assert names.answered("m99") == "m99"


@pytest.mark.parametrize("name", ["x" * 129, "two\nlines", "half \ud83d"])
def test_a_name_that_cannot_be_a_label_is_none(metrics, name):
    """It must not keep Prometheus from reading all the others."""
    assert ModelNames().answered(name) == OTHER
    metrics.endpoint("openai", closed=bool, in_flight=int).answered(name, {}, 0.1)
    assert b'model="other"' in metrics.exposed()


def test_tokens_are_counted_by_kind(endpoint, value):
    """As the endpoint says them: what was cached is part of the input, what was thought part of the output."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    for _ in range(2):
        endpoint.answered("m", usage, 0.1)
    counted = {
        kind: value("model_tokens_total", endpoint="openai", model="m", kind=kind)
        for kind in ("input", "cached_input", "output", "reasoning")
    }
    assert counted == {"input": 20, "cached_input": 8, "output": 10, "reasoning": 6}


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "much",
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": 1e300},
        {"prompt_tokens": 2**60},
        {"prompt_tokens": "7"},
        {"prompt_tokens_details": 7},
        {"prompt_tokens_details": {"cached_tokens": None}},
    ],
    ids=str,
)
def test_usage_that_is_none_is_not_counted(endpoint, value, usage):
    """An endpoint may say anything, and no answer is lost to it."""
    endpoint.answered("m", usage, 0.1)
    assert value("model_tokens_total", endpoint="openai", model="m", kind="input") is None
    ok = {"endpoint": "openai", "model": "m", "outcome": "ok"}
    assert value("model_request_duration_seconds_count", **ok) == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Refused(Code.UPSTREAM_REJECTED, "no"), "refused"),
        (Unavailable(UPSTREAM, "later"), "unavailable"),
        (BadBody("openai", "no JSON"), "unavailable"),
        (asyncio.CancelledError(), "cancelled"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
def test_a_call_that_failed_is_counted_by_how(endpoint, value, error, outcome):
    """Of a model that never answered the name is not told."""
    endpoint.failed("made up", error, 0.1)
    labels = {"endpoint": "openai", "model": OTHER, "outcome": outcome}
    assert value("model_request_duration_seconds_count", **labels) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unavailable(UPSTREAM, "x", status=429), "429"),
        (Unavailable(UPSTREAM, "x", status=503), "503"),
        (Unavailable(UPSTREAM, "x", status=599), "other"),
        (Refused(Code.UPSTREAM_REJECTED, "x", status=401), "401"),
        (Unavailable(Code.UPSTREAM_TIMEOUT, "x"), "timeout"),
        (Unavailable(UPSTREAM, "x"), "connection"),
        (Closed(UPSTREAM, "x"), "connection"),
        (BadBody("openai", "x"), "bad_body"),
        (ValueError("x"), "other"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
def test_the_reason_of_a_retry_is_one_of_a_few(endpoint, value, error, told):
    assert reason(error) == told
    endpoint.retried(error)
    assert value("model_retries_total", endpoint="openai", reason=told) == 1


def test_what_is_so_now_is_asked_when_somebody_looks(metrics, endpoint, value):
    """Nothing of it is kept from one look to the next."""
    jobs, conditions, store = set(), {"connected": True, "consuming": False}, {"calls_paid_twice": 0}
    metrics.watch_jobs(jobs.__len__)
    metrics.watch_consumer(lambda: conditions)
    metrics.watch_store(lambda: store)
    assert value("jobs_in_flight", queue="forward") == 0
    assert value("consumer_up", queue="forward") == 0
    assert value("calls_paid_twice_total", queue="forward") == 0
    jobs.add("one")
    conditions["consuming"] = True
    store["calls_paid_twice"] = 2
    assert value("jobs_in_flight", queue="forward") == 1
    assert value("consumer_up", queue="forward") == 1
    assert value("calls_paid_twice_total", queue="forward") == 2
    assert value("model_requests_in_flight", endpoint="openai") == 3
    assert value("endpoint_open", endpoint="openai") == 1
    conditions["connected"] = False
    assert value("consumer_up", queue="forward") == 0


def test_the_longest_lag_is_told_for_a_minute():
    """One that was over when somebody looked is told, and forgotten later."""
    now = [0.0]
    heart = Heart(lambda: now[0])
    for seconds in (1.0, 8.5, *[1.0] * (BEATS_REMEMBERED - 1)):
        now[0] += seconds
        heart.beat()
    assert heart.lag() == 7.5
    now[0] += 1.0
    heart.beat()
    assert heart.lag() == 0.0
    # the loop does not turn, and somebody asks beside it
    now[0] += 3.25
    assert heart.lag() == 2.25


class Outbox:
    """The outgoing side, which takes everything."""

    async def answer(self, answer, *, to, id, key):
        pass

    async def file(self, request, error):
        pass


class Deadly:
    """A process that never survives."""

    async def work(self, envelope):
        await asyncio.sleep(0)

    def stop(self):
        pass


@pytest.mark.parametrize("buries", [Undertaker, Suspects])
async def test_a_message_that_nobody_survives_is_a_failed_job(metrics, value, buries):
    """Its own process cannot count it."""
    given = (metrics,) if buries is Undertaker else (Deadly(), metrics)
    acknowledged = asyncio.Event()

    async def ack() -> bool:
        acknowledged.set()
        return True

    buries(FORWARD, Outbox(), *given).deliver(Delivery(Envelope(b"{}"), "queue", redelivered=False, ack=ack))
    async with asyncio.timeout(5):
        await acknowledged.wait()
    assert value("jobs_total", queue="forward", outcome="failed", code="worker_crashed") == 1


def test_everything_has_a_base_unit_and_no_label_that_grows_with_the_messages(metrics, endpoint):
    """Ids, addresses and texts are for the log."""
    endpoint.answered("m", {"prompt_tokens": 1}, 0.1)
    metrics.watch_store(dict)
    ours = [family for family in metrics.registry.collect() if family.name.startswith("backtalk_")]
    labels: Mapping[str, set[str]] = {family.name: _labels(family) for family in ours}
    allowed = {"queue", "outcome", "code", "reason", "endpoint", "model", "kind", "version", "role", "le"}
    assert set().union(*labels.values()) <= allowed
    assert all("seconds" in family.name for family in ours if family.type == "histogram")
    assert all(family.documentation for family in ours)


def _labels(family):
    return {label for sample in family.samples for label in sample.labels}
