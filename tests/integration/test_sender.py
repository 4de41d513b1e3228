"""What the README says of the properties that a sender sets, where no other test holds it."""

from __future__ import annotations

import gzip
import json
import struct
import time
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest
import pytest_asyncio
from aio_pika import exceptions as amqp

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def sender(pair):
    """A channel of a service that knows AMQP and nothing else, with confirms."""
    async with await aio_pika.connect(pair.url) as connection:
        yield await connection.channel(on_return_raises=True)


async def test_a_wrong_key_is_told_only_to_who_asks(pair, sender, job):
    """The broker confirms what it drops; `mandatory` has it come back."""
    message = aio_pika.Message(json.dumps(job()).encode())
    jobs = await sender.get_exchange(pair.names.jobs)
    for exchange, key in ((sender.default_exchange, pair.names.work("foreward")), (jobs, "foreward")):
        await exchange.publish(message, routing_key=key, mandatory=False)
        with pytest.raises(amqp.PublishError):
            await exchange.publish(message, routing_key=key, mandatory=True)


async def test_a_user_id_of_another_is_refused_by_the_broker(pair, sender, job):
    """It closes the channel, and the job was never sent."""
    message = aio_pika.Message(json.dumps(job()).encode(), user_id="somebody")
    with pytest.raises(amqp.ChannelClosed):
        await sender.default_exchange.publish(message, routing_key=pair.names.work("forward"))
    assert (await pair.ask(job())).json["status"] == "completed"
    assert pair.model.total == 1


@pytest.mark.parametrize(
    "properties",
    [{"delivery_mode": 1}, {"delivery_mode": None}, {"priority": 9}, {"app_id": "theirs"}],
    ids=str,
)
async def test_what_is_not_looked_at_changes_nothing(pair, job, properties):
    """The answer is the same, persistent, and repeats none of it."""
    answer = await pair.ask(job(), message_id="m", **properties)
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")
    assert (answer.message.delivery_mode, answer.message.priority, answer.message.app_id) == (2, 0, None)


async def test_gzip_that_does_not_say_so_is_no_json(pair, job):
    """Nobody guesses at a body."""
    answer = await pair.ask(gzip.compress(json.dumps(job()).encode()))
    assert (answer.json["status"], answer.error["code"]) == ("failed", "invalid_message")
    assert "not valid JSON" in answer.error["message"]
    assert (await pair.take(pair.names.dead("forward"))).headers["x-backtalk-reason"] == "invalid_message"


async def test_an_attempt_that_a_sender_made_up_is_believed(pair, job):
    """So it is left out: nothing is gained by it but fewer tries."""
    answer = await pair.ask(job(), headers={"x-backtalk-attempt": 3})
    assert answer.headers["x-backtalk-attempt"] == 3


async def test_an_old_message_in_milliseconds_is_old(pair, job):
    """Some libraries write them; it is tried, but a new message would wait for its next try."""
    pair.model.rule(times=3, status=500)
    mailbox = await pair.mailbox()
    old = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    written, meant = (struct.pack(">Q", int(old.timestamp()) * unit) for unit in (1, 1000))
    began = time.monotonic()
    await pair.send_bare(job(), message_id="m", reply_to=mailbox, timestamp=old, alter=(written, meant))
    answer = await pair.take(mailbox)
    assert time.monotonic() - began < 5
    assert (answer.error["code"], answer.headers["x-backtalk-attempt"]) == ("upstream_unavailable", 0)
