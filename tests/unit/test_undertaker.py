"""Why the broker gave up on a message."""

import pytest

from backtalk.runtime.undertaker import verdict
from backtalk.transport.envelope import Envelope
from backtalk.wire.errors import Code

EXPIRED = {"reason": "expired", "queue": "ns.forward"}
CRASHED = {"reason": "delivery_limit", "queue": "ns.forward"}
RETRIED = {"reason": "expired", "queue": "ns.forward.retry.5s"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-death": [CRASHED]}, Code.WORKER_CRASHED),
        ({"x-death": [EXPIRED]}, Code.DEADLINE_EXCEEDED),
        ({"x-death": [CRASHED, RETRIED], "x-first-death-reason": "expired"}, Code.WORKER_CRASHED),
        ({"x-death": [EXPIRED, CRASHED], "x-first-death-reason": "delivery_limit"}, Code.DEADLINE_EXCEEDED),
        ({"x-death": []}, Code.WORKER_CRASHED),
        ({}, Code.WORKER_CRASHED),
    ],
    ids=str,
)
def test_the_latest_death_decides(headers, code):
    """A message that waited on a rung has expired once before; that is not what it died of."""
    error = verdict(Envelope(b"", headers=headers))
    assert error.code == code
    assert error.retryable is (code == Code.WORKER_CRASHED)
