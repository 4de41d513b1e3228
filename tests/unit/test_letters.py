"""What is known of a dead letter, which are meant, and what a retried one takes along."""

import gzip
import json

import pytest

from backtalk.operate.contents import contents, printable
from backtalk.operate.letters import Selection, letter, revived
from backtalk.transport.envelope import Envelope
from backtalk.wire.identity import request_id

FILED = Envelope(
    b"{}",
    message_id="order-1",
    correlation_id="c",
    reply_to="answers",
    type="completion.job.v1",
    content_type="application/json",
    timestamp=1000.0,
    headers={
        "x-backtalk-reason": "worker_crashed",
        "x-backtalk-reason-text": "all died",
        "x-backtalk-attempt": 3,
        "x-backtalk-accept-encoding": "gzip",
        "traceparent": "00-1-2-03",
        "x-delivery-count": 7,
        "x-death": [{"reason": "expired"}],
    },
)


def test_a_letter_is_known_by_its_properties_and_not_by_its_body():
    """The body is measured and hashed."""
    found = letter(FILED, "forward", 4)
    assert (found.role, found.position, found.id, found.sent) == ("forward", 4, "order-1", 1000.0)
    assert (found.code, found.text, found.size, found.attempt) == ("worker_crashed", "all died", 2, 3)


def test_a_letter_without_an_id_has_the_one_that_a_worker_would_give_it():
    """Of the body as it is unpacked, so that the answer to a retry bears it."""
    packed = Envelope(gzip.compress(b"{}"), content_encoding="gzip", reply_to="r", correlation_id="c")
    assert letter(packed, "forward", 1).id == request_id(None, b"{}", "r", "c")


def test_a_letter_that_cannot_be_unpacked_has_an_id_all_the_same():
    """Otherwise nobody could name it."""
    broken = Envelope(b"no gzip", content_encoding="gzip")
    assert letter(broken, "forward", 1).id == request_id(None, b"no gzip", None, None)


def test_reasons_that_are_no_text_are_none():
    """Somebody may have put the letter there by hand."""
    odd = letter(Envelope(b"", headers={"x-backtalk-reason": 5, "x-backtalk-attempt": "x"}), "forward", 1)
    assert (odd.code, odd.text, odd.attempt) == (None, None, 0)


def test_letters_with_one_id_and_other_bodies_are_told_apart():
    """Who was asked about one does not delete the other."""
    other = Envelope(b"[]", message_id="order-1")
    assert letter(FILED, "forward", 1).copy != letter(other, "forward", 1).copy


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(("backward",)), False),
        (Selection(code="worker_crashed"), True),
        (Selection(code="internal"), False),
        (Selection(ids=frozenset({"order-1", "x"})), True),
        (Selection(ids=frozenset({"x"})), False),
        (Selection(code="internal", ids=frozenset({"order-1"})), False),
    ],
)
def test_a_selection_takes_what_fits_all_that_it_says(selection, taken):
    """What it does not say does not matter."""
    assert selection.takes(letter(FILED, "forward", 1)) is taken


def test_a_revived_letter_keeps_who_it_is_and_forgets_what_befell_it():
    """Neither the reason nor the attempts go along, nor what the broker wrote on it."""
    again = revived(FILED)
    assert again.headers == {"x-backtalk-accept-encoding": "gzip", "traceparent": "00-1-2-03"}
    assert (again.message_id, again.correlation_id, again.reply_to) == ("order-1", "c", "answers")
    assert (again.body, again.type, again.timestamp, again.attempt) == (b"{}", "completion.job.v1", 1000.0, 0)


def test_a_letter_without_an_id_is_revived_under_the_one_it_is_listed_by():
    """The id is written out, or the transport would invent one."""
    bare = Envelope(b"{}")
    assert revived(bare).message_id == letter(bare, "forward", 1).id


def test_json_is_read_also_when_it_is_packed():
    """People get to see values."""
    read = contents(Envelope(gzip.compress(b'{"a":[1]}'), content_encoding="gzip"))
    assert (read.value, read.is_json, read.problem) == ({"a": [1]}, True, None)


@pytest.mark.parametrize("body", [b"plain", b"", b"[" * 100_000], ids=["text", "empty", "deep"])
def test_what_is_no_json_is_text(body):
    """Also what is too deep for the parser."""
    read = contents(Envelope(body))
    assert (read.text, read.is_json) == (body.decode(), False)


def test_bytes_that_are_no_text_are_shown_as_escapes():
    """Nothing is left out."""
    assert contents(Envelope(b"\xff\xfe ok")).text == r"\xff\xfe ok"


def test_a_body_that_cannot_be_unpacked_is_shown_as_it_is_with_the_reason():
    """That may be why the letter is dead."""
    read = contents(Envelope(b"no gzip", content_encoding="gzip"))
    assert read.text == "no gzip"
    assert "gzip" in (read.problem or "")


def test_nothing_in_a_text_steers_a_terminal():
    """Escapes stand for control characters and for what cannot be encoded; letters of all scripts stay."""
    assert printable("a\x1b[31m\x9b\x07 Grüße 你\n\t") == "a\\x1b[31m\\x9b\\x07 Grüße 你\n\t"
    printable(json.loads('"\\ud800"')).encode()
