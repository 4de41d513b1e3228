"""The error codes of the wire."""

import pytest

from backtalk.wire.errors import BacktalkError, Code, Refused, Unavailable, invalid

CODES = {
    "invalid_message": False,
    "unsupported_schema_version": False,
    "payload_too_large": False,
    "invalid_template": False,
    "graph_conflict": False,
    "incomplete_graph": False,
    "deadline_exceeded": False,
    "cancelled": True,
    "upstream_rejected": False,
    "upstream_unavailable": True,
    "upstream_timeout": True,
    "budget_exceeded": False,
    "worker_crashed": True,
    "internal": True,
}


def test_the_codes_are_those_of_the_design():
    """A code is for programs to compare, so the set is closed."""
    assert [code.value for code in Code] == list(CODES)


@pytest.mark.parametrize(("code", "retryable"), CODES.items())
def test_an_error_says_whether_the_same_request_may_succeed_later(code, retryable):
    """What is the sender's to mend is not retryable, what passes by itself is."""
    error = BacktalkError(Code(code), "message", field="x").error
    assert error.model_dump(mode="json") == {
        "code": code,
        "message": "message",
        "retryable": retryable,
        "details": {"field": "x"},
    }


def test_an_invalid_field_is_named_by_its_path():
    """The message and the details both say where to look."""
    refused = invalid("messages/0/role", "is odd; mend it", extra=1)
    assert isinstance(refused, Refused)
    assert str(refused) == "messages/0/role: is odd; mend it"
    assert refused.error.details == {"path": "messages/0/role", "extra": 1}


def test_an_unavailable_endpoint_says_when_to_come_back():
    """How long an endpoint asked to wait travels with the exception, not with the error."""
    error = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down", retry_after=3.5, status=503)
    assert error.retry_after == 3.5
    assert error.error.details == {"status": 503}
