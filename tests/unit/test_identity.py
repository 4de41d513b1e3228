"""Ids derive from what they name."""

import hashlib
import uuid

import pytest

from backtalk.wire.identity import answer_id, derive, request_id, work_key


def test_a_request_has_the_id_its_sender_gave_it():
    """A message id is the job id, whatever else the message says."""
    assert request_id("mine", b"body", "reply", "correlation") == "mine"


@pytest.mark.parametrize("absent", [None, ""])
def test_a_request_without_an_id_is_named_after_body_address_and_correlation(absent):
    """The same message gets the same id again; any difference makes it another one."""
    base = (b"body", "reply", "correlation")
    ids = {
        request_id(absent, *told)
        for told in (
            base,
            (b"body!", "reply", "correlation"),
            (b"body", "reply!", "correlation"),
            (b"body", "reply", "correlation!"),
            (b"body", "replyc", "orrelation"),
            (b"bodyr", "eply", "correlation"),
            (b"body", None, "correlation"),
            (b"body", "reply", None),
        )
    }
    assert len(ids) == 8
    assert request_id(absent, *base) in ids


def test_an_empty_address_is_none():
    """Empty reply_to is none, in the id as well."""
    assert request_id(None, b"body", "", None) == request_id(None, b"body", None, "")


def test_the_work_key_tells_work_apart_by_id_and_body():
    """A reused id with another body is another job, and the same body under another id too."""
    assert len({work_key("a", b"bc"), work_key("ab", b"c"), work_key("a", b"bd"), work_key("b", b"bc")}) == 4
    assert work_key("a", b"bc") == work_key("a", b"bc")


def test_the_work_key_is_a_sha256():
    """It is as long as the hash the design names."""
    assert len(bytes.fromhex(work_key("a", b"b"))) == hashlib.sha256().digest_size


def test_derived_ids_depend_on_key_and_path():
    """A repeated delivery writes the same ids, another piece of work different ones."""
    paths = ("outputs/0", "outputs/1", "operation")
    derived = [derive(key, path) for key in ("k1", "k2") for path in paths]
    assert len(set(derived)) == 6
    assert derived == [derive(key, path) for key in ("k1", "k2") for path in paths]


def test_ids_stay_what_they_were_in_earlier_releases():
    """Workers of two releases agree on every id, or repeats and redeliveries could not be told."""
    assert work_key("job-1", b"{}") == "940c08d7fde7e480a253af5894ae421c7268006152de2d72a6a85d068a57786d"
    assert derive("key", "outputs/0") == "cec55106f5b332851fdfd403a30062e3"
    assert request_id(None, b"{}", "q", "c") == "5310ded4f6ac62f9ff7d497fc4bc585d"
    assert answer_id("key", "q") == "6b5f48d0-8e7d-59db-802b-afbb87237d51"


def test_an_answer_is_named_by_work_and_address():
    """Every repeat of an answer has the same id; another address is another answer."""
    named = answer_id("key", "queue")
    assert uuid.UUID(named).version == 5
    assert named == answer_id("key", "queue")
    assert len({named, answer_id("key", "other"), answer_id("other", "queue"), answer_id("key", None)}) == 4
    assert answer_id("key", None) == answer_id("key", "")
