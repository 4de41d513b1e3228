"""Requests that their senders want no more."""

from __future__ import annotations

from backtalk.runtime import cancelled as module
from backtalk.runtime.cancelled import Cancelled, cancelled


def test_what_was_cancelled_is_known_and_nothing_else():
    """By its id, however often it was said."""
    ids = Cancelled()
    ids.add("m")
    ids.add("m")
    assert "m" in ids
    assert "n" not in ids


def test_the_oldest_are_forgotten_first(monkeypatch):
    """A sender that cancels everything fills no memory; saying it again makes it new."""
    monkeypatch.setattr(module, "REMEMBERED", 3)
    ids = Cancelled()
    for id in ("a", "b", "c", "a", "d"):
        ids.add(id)
    assert [id in ids for id in "abcd"] == [True, False, True, True]


def test_a_cancelled_request_is_not_welcome_again():
    """Under its id it stays cancelled, so trying again is no use; each is told by an error of its own."""
    one, another = cancelled(), cancelled()
    assert (one.error.code, one.error.retryable) == ("cancelled", False)
    assert "another id" in one.error.message
    assert one is not another
