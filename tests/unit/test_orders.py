"""What all workers are told at once, as one of them follows it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from backtalk.runtime.orders import MAX_BYTES, Orders
from backtalk.runtime.store import NoStore
from backtalk.wire.codec import encode
from backtalk.wire.control import Control


class Follower:
    """A worker and a store in one: keeps whom it was to cancel."""

    def __init__(self):
        self.told = []
        self.remembered = []

    def cancel(self, id):
        self.told.append(id)


class Memory(NoStore):
    def __init__(self, follower):
        self.follower = follower

    async def cancel(self, id):
        await asyncio.sleep(0)
        self.follower.remembered.append(id)


@pytest.fixture
def follower():
    return Follower()


@pytest.fixture
def orders(follower):
    return Orders(follower, Memory(follower))


async def test_a_cancellation_is_followed_at_once_and_remembered(orders, follower):
    """By the worker in the same moment, and by those that come later through the store."""
    with capture_logs() as logs:
        orders.hear(encode(Control(cancel="m")))
    assert (follower.told, follower.remembered) == (["m"], [])
    await asyncio.sleep(0.01)
    assert follower.remembered == ["m"]
    assert [(line["event"], line["job"]) for line in logs] == [("cancelling", "m")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_message"),
        (b"\xff", "invalid_message"),
        (b"[]", "invalid_message"),
        (b'{"schema_version": 1}', "invalid_message"),
        (b'{"cancel": 5}', "invalid_message"),
        (b'{"cancel": ""}', "invalid_message"),
        (b'{"cancel": "m", "secret": "x"}', "invalid_message"),
        (b'{"schema_version": 2, "cancel": "m"}', "unsupported_schema_version"),
        (b'{"cancel": "m"}' + b" " * MAX_BYTES, "payload_too_large"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_is_no_order_is_logged_and_forgotten(orders, follower, body, code):
    """There is nobody to answer to; nothing of it stands in the log."""
    with capture_logs() as logs:
        orders.hear(body)
    await asyncio.sleep(0)
    assert (follower.told, follower.remembered) == ([], [])
    assert logs == [{"event": "order not understood", "code": code, "log_level": "warning"}]


async def test_a_later_order_is_heard_after_one_that_was_none(orders, follower):
    """Nothing gets stuck."""
    orders.hear(b"junk")
    orders.hear(encode(Control(cancel="m")))
    assert follower.told == ["m"]
    await asyncio.sleep(0.01)
