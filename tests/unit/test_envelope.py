"""A message as it is sent on."""

import time

import pytest

from backtalk.transport.envelope import Envelope

WHOLE = Envelope(
    body=b"{}",
    message_id="1",
    correlation_id="c",
    reply_to="r",
    type="completion.job.v1",
    content_type="application/json",
    content_encoding="gzip",
    timestamp=12345.0,
    headers={"x-backtalk-attempt": 2},
)


def test_a_republished_message_keeps_its_properties():
    """Everything that the sender's answer depends on stays; content_type is not looked at and goes."""
    assert WHOLE.republished("1") == Envelope(
        body=b"{}",
        message_id="1",
        correlation_id="c",
        reply_to="r",
        type="completion.job.v1",
        content_type=None,
        content_encoding="gzip",
        timestamp=12345.0,
        headers={"x-backtalk-attempt": 2},
    )


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("traceparent", True),
        ("tracestate", True),
        ("x-backtalk-attempt", True),
        ("x-backtalk-accept-encoding", True),
        ("x-backtalk-anything", True),
        ("CC", False),
        ("BCC", False),
        ("x-death", False),
        ("x-first-death-reason", False),
        ("x-delivery-count", False),
        ("x-acquired-count", False),
        ("x-backtalk", False),
        ("X-Backtalk-Attempt", False),
        ("traceparent-of-mine", False),
        ("tracestates", False),
        ("custom", False),
    ],
)
def test_a_republished_message_keeps_only_headers_of_ours_and_of_tracing(header, kept):
    """A copied CC doubles the message, x-death grows for ever, and the rest is the sender's own."""
    again = Envelope(b"", headers={header: "value"}).republished("1")
    assert dict(again.headers) == ({header: "value"} if kept else {})


def test_a_republished_message_bears_its_id():
    """An id that was absent is written out, since the client library would invent another one."""
    assert Envelope(b"").republished("derived").message_id == "derived"


def test_headers_given_at_republish_win():
    """A rung counts the attempt up."""
    assert WHOLE.republished("1", **{"x-backtalk-attempt": 3}).attempt == 3


def test_a_message_without_a_timestamp_gets_one_when_it_is_sent_on():
    """Its age counts from then, so that it does not go round for ever."""
    before = time.time()
    stamped = Envelope(b"").republished("1").timestamp
    assert before <= stamped <= time.time()


def test_the_original_is_left_as_it_was():
    """Republishing makes a new message."""
    WHOLE.republished("2", extra=1)
    assert (WHOLE.message_id, WHOLE.headers) == ("1", {"x-backtalk-attempt": 2})


@pytest.mark.parametrize(
    ("value", "attempt"),
    [(0, 0), (3, 3), (-1, 0), ("3", 0), (None, 0), (1.5, 0), ([], 0), (b"3", 0)],
    ids=repr,
)
def test_an_attempt_that_is_no_number_counts_as_never(value, attempt):
    """Headers come from strangers."""
    assert Envelope(b"", headers={"x-backtalk-attempt": value}).attempt == attempt


def test_a_message_without_headers_was_never_tried():
    """The count starts at 0."""
    assert Envelope(b"").attempt == 0


def test_headers_that_leave_no_room_for_ours_are_let_go():
    """The broker closes the connection that sends more than a frame of them, and it would be tried for ever."""
    padded = Envelope(
        b"", headers={"x-backtalk-pad": "x" * 130_000, "x-backtalk-attempt": 2, "traceparent": "00"}
    )
    assert padded.republished("1").headers == {"x-backtalk-attempt": 2, "traceparent": "00"}
    many = Envelope(b"", headers={f"x-backtalk-{at}": "x" * 100 for at in range(1000)})
    assert many.republished("1").headers == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {}),
        (
            {"traceparent": "00-1", "tracestate": "a=b", "x-other": "c"},
            {"traceparent": "00-1", "tracestate": "a=b"},
        ),
        ({"traceparent": 1, "tracestate": None}, {}),
        ({"traceparent": "00-1", "tracestate": "x" * 100_000}, {"traceparent": "00-1"}),
    ],
    ids=["none", "both", "no texts", "too long"],
)
def test_what_a_sender_says_of_its_trace(given, told):
    """Answers bear it, so it has to fit beside their own headers."""
    assert Envelope(b"", headers=given).trace == told
