"""What is told of an endpoint's error: its own words, and nothing of what it was sent."""

import httpx2
import pytest

from backtalk.runtime.answered import refusal
from backtalk.wire.errors import Code, Unavailable

KEY = "sk-very-secret"


def response(status, **body):
    return httpx2.Response(status, **body)


def test_the_words_of_an_openai_error_are_told_without_the_key():
    """A server may repeat what it was sent."""
    error = refusal(response(401, json={"error": {"message": f"Incorrect key {KEY}."}}), "openai", secret=KEY)
    assert error.error.code == Code.UPSTREAM_REJECTED
    assert "Incorrect key ***." in error.error.message
    assert KEY not in str(error.error)


@pytest.mark.parametrize(
    "body",
    [
        {"text": f"Authorization: Bearer {KEY}"},
        {"html": f"<p>{KEY}</p>"},
        {"json": {"message": KEY}},
        {"json": {"error": KEY}},
        {"json": {"error": {"message": [KEY]}}},
        {"content": b"\xff\xfe", "headers": {"content-type": "text/plain; charset=hex"}},
        {"content": b""},
    ],
)
def test_of_any_other_body_only_its_kind_is_told(body):
    """A gateway's error page may hold the request."""
    error = refusal(response(502, **body), "openai")
    assert isinstance(error, Unavailable)
    assert KEY not in str(error.error)
    assert "bytes" in error.error.message


def test_an_exhausted_quota_does_not_pass():
    """The code tells it from too many requests at once."""
    body = {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}
    assert not isinstance(refusal(response(429, json=body), "openai"), Unavailable)
    assert isinstance(
        refusal(response(429, json={"error": {"message": "Slow down."}}), "openai"), Unavailable
    )
