"""Deliveries that were counted although nobody died."""

from __future__ import annotations

import pytest

from backtalk.transport.envelope import DEADLY, Delivery, Envelope
from backtalk.transport.rabbitmq import shaken as module
from backtalk.transport.rabbitmq.shaken import DEADLY_WHEN_SHAKEN, SHAKEN_SECONDS, Shaken


class Connection:
    def __init__(self):
        self.reconnect_callbacks = set()


def test_a_connection_that_came_back_of_late_makes_deliveries_count_less(monkeypatch):
    """A new process has lost none: it may be new because a message killed the one before."""
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    connection = Connection()
    shaken = Shaken(connection)
    assert shaken.deadly() == DEADLY
    for callback in connection.reconnect_callbacks:
        callback(connection)
    assert shaken.deadly() == DEADLY_WHEN_SHAKEN
    now += SHAKEN_SECONDS
    assert shaken.deadly() == DEADLY


@pytest.mark.parametrize(("deadly", "suspicious"), [(2, True), (6, True), (7, False), (20, False)])
def test_a_message_is_a_suspect_from_so_many_deliveries_on(deadly, suspicious):
    """What a forced close of all connections counts is no death."""
    envelope = Envelope(b"", headers={"x-delivery-count": 6})
    assert Delivery(envelope, "q", redelivered=True, ack=None, deadly=deadly).suspicious is suspicious
