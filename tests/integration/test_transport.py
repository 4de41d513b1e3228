"""The one module that knows AMQP, on a real broker: publish, consume, declare, and come back."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from backtalk.client import BrokerUnreachable, QueueFull, TopologyMismatch, Unconfirmed, Unroutable
from backtalk.local.broker import free_ports
from backtalk.transport.envelope import Envelope
from backtalk.transport.rabbitmq import connect
from backtalk.transport.topology import Queue, reply_queue
from backtalk.wire.codec import MAX_WIRE_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def broker_of(stage):
    """Return a connection to the shared broker."""
    async with connect(stage.url, name="test", patience=5) as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="module")
async def fragile(own_stage):
    """Return a connection to the broker that a test may maltreat."""
    async with connect(own_stage.url, name="test", patience=5) as connected:
        yield connected


class Arrivals:
    """Deliveries in the order they came, each acknowledged."""

    def __init__(self):
        self._came = asyncio.Queue()
        self._acks = set()

    def take(self, delivery):
        self._came.put_nowait(delivery)
        ack = asyncio.ensure_future(delivery.ack())
        self._acks.add(ack)
        ack.add_done_callback(self._acks.discard)

    async def next(self):
        return (await asyncio.wait_for(self._came.get(), 15)).envelope


async def test_what_is_published_arrives_once_with_its_properties(stage, broker_of):
    """Body, ids, addresses, time and headers are the same at the other end."""
    mailbox, arrivals = await stage.mailbox(), Arrivals()
    await broker_of.consume(mailbox, arrivals.take, prefetch=5)
    sent = Envelope(
        b"\x00\xff body",
        message_id="m",
        correlation_id="c",
        reply_to="r",
        type="t.v1",
        content_type="text/plain",
        content_encoding="gzip",
        timestamp=1_700_000_000.0,
        headers={"x-a": 1, "x-b": "text", "x-c": {"d": [True, None]}},
    )
    await broker_of.publish(sent, key=mailbox)
    came = await arrivals.next()
    assert {name: getattr(came, name) for name in Envelope.__slots__ if name != "headers"} == {
        name: getattr(sent, name) for name in Envelope.__slots__ if name != "headers"
    }
    assert {name: came.headers[name] for name in sent.headers} == sent.headers
    await stage.until(lambda: empty(stage, mailbox))


async def empty(stage, queue):
    return await stage.depth(queue) == 0


async def test_messages_are_persistent(stage, broker_of):
    """What is confirmed survives a restart of the broker."""
    mailbox = await stage.mailbox()
    await broker_of.publish(Envelope(b"x", message_id="m"), key=mailbox)
    assert (await stage.take(mailbox)).message.delivery_mode == 2


async def test_what_is_left_out_arrives_as_nothing(stage, broker_of):
    """Empty properties of other libraries count as absent."""
    mailbox, arrivals = await stage.mailbox(), Arrivals()
    await broker_of.consume(mailbox, arrivals.take, prefetch=5)
    await stage.send(b"", key=mailbox, message_id="m", reply_to="", type="", correlation_id="")
    assert await arrivals.next() == Envelope(b"", message_id="m")


async def test_a_message_that_no_queue_takes_is_returned(stage, broker_of):
    """The publisher hears of it at once; without `mandatory` it does not want to."""
    with pytest.raises(Unroutable, match="nobody's"):
        await broker_of.publish(Envelope(b"x", message_id="m"), key="nobody's")
    await broker_of.publish(Envelope(b"x", message_id="m"), key="nobody's", mandatory=False)
    mailbox = await stage.mailbox()
    await broker_of.publish(Envelope(b"x", message_id="m"), key=mailbox)
    assert (await stage.take(mailbox)).content == b"x"


async def test_a_returned_message_disturbs_none_beside_it(stage, broker_of):
    """Of many publishes at once only those fail that nobody takes."""
    mailbox = await stage.mailbox()
    keys = [mailbox, "nobody's"] * 50
    outcomes = await asyncio.gather(
        *(broker_of.publish(Envelope(b"x", message_id=str(at)), key=key) for at, key in enumerate(keys)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Unroutable] * 50
    assert await stage.depth(mailbox) == 50


async def test_a_full_queue_refuses(stage, broker_of):
    """A refusal is told apart from everything else, for it passes."""
    limits = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    mailbox = await stage.mailbox(**limits)
    await broker_of.publish(Envelope(b"first", message_id="1"), key=mailbox)
    with pytest.raises(QueueFull, match=mailbox):
        await broker_of.publish(Envelope(b"second", message_id="2"), key=mailbox)
    assert (await stage.take(mailbox)).content == b"first"
    await broker_of.publish(Envelope(b"third", message_id="3"), key=mailbox)


async def test_a_body_of_the_largest_size_passes(stage, broker_of):
    """The cap of a body on the wire is below that of every supported broker."""
    mailbox, arrivals = await stage.mailbox(), Arrivals()
    await broker_of.consume(mailbox, arrivals.take, prefetch=5)
    body = bytes(MAX_WIRE_BYTES)
    await broker_of.publish(Envelope(body, message_id="m"), key=mailbox)
    assert (await arrivals.next()).body == body


async def test_at_most_so_many_are_unsettled(stage, broker_of):
    """The prefetch bounds what a consumer holds; a settled one makes room for the next."""
    mailbox, held = await stage.mailbox(), []
    await broker_of.consume(mailbox, held.append, prefetch=2)
    for at in range(4):
        await broker_of.publish(Envelope(b"x", message_id=str(at)), key=mailbox)
    await stage.until(lambda: len(held) == 2)
    assert await stage.depth(mailbox) == 2
    assert await held[0].ack()
    await stage.until(lambda: len(held) == 3)
    assert [delivery.envelope.message_id for delivery in held] == ["0", "1", "2"]
    assert not held[0].redelivered


async def test_what_was_not_settled_comes_back(stage, broker_of):
    """A consumer that is cancelled can still settle; one that is closed gives back."""
    mailbox, held = await stage.mailbox(), []
    consumer = await broker_of.consume(mailbox, held.append, prefetch=2)
    for at in range(2):
        await broker_of.publish(Envelope(b"x", message_id=str(at)), key=mailbox)
    await stage.until(lambda: len(held) == 2)
    await consumer.pause()
    assert await held[0].ack()
    await broker_of.publish(Envelope(b"x", message_id="late"), key=mailbox)
    assert await stage.depth(mailbox) == 1
    await consumer.close()
    assert not await held[1].ack()
    back = [await stage.take(mailbox), await stage.take(mailbox)]
    assert {letter.id: letter.message.redelivered for letter in back} == {"1": True, "late": False}


async def test_a_declared_queue_can_be_declared_again_but_not_otherwise(stage, broker_of):
    """A queue for answers is declared by every client that uses it."""
    lasting = reply_queue(stage.names, "s", lasting=True)
    await broker_of.declare(lasting)
    await broker_of.publish(Envelope(b"kept", message_id="m"), key=lasting.name)
    await broker_of.declare(lasting)
    with pytest.raises(TopologyMismatch, match=f"queue {lasting.name} .*x-expires"):
        await broker_of.declare(reply_queue(stage.names, "s", lasting=False))
    assert (await stage.take(lasting.name)).content == b"kept"
    await broker_of.delete(lasting.name)


async def test_deleting_what_is_not_there_is_no_error(stage, broker_of):
    """Two clients may forget one stream."""
    await broker_of.delete(stage.names.replies("nobody"))
    assert broker_of.connected


async def test_a_connection_comes_back_and_consumes_again(own_stage, own_broker, fragile):
    """What is published while the connection is away is sent when it is back, and arrives."""
    mailbox, arrivals = await own_stage.mailbox(), Arrivals()
    await fragile.consume(mailbox, arrivals.take, prefetch=5)
    await own_broker.control("close_all_connections", "test")
    await fragile.publish(Envelope(b"x", message_id="m"), key=mailbox)
    assert (await arrivals.next()).body == b"x"
    await own_stage.until(lambda: fragile.connected)


async def test_a_delivery_of_a_lost_connection_cannot_be_settled(own_stage, own_broker, fragile):
    """It says so, and the message comes again under the same id."""
    mailbox, held = await own_stage.mailbox(), []
    await fragile.consume(mailbox, held.append, prefetch=5)
    await fragile.publish(Envelope(b"x", message_id="m"), key=mailbox)
    await own_stage.until(lambda: held)
    await own_broker.control("close_all_connections", "test")
    await own_stage.until(lambda: len(held) == 2)
    assert not await held[0].ack()
    assert (held[1].redelivered, held[1].envelope.message_id) == (True, "m")
    assert await held[1].ack()


async def test_a_consumer_comes_back_also_when_its_queue_has_changed(own_stage, own_broker, fragile):
    """The queue is found by its name, not declared: other arguments since are no obstacle."""
    arrivals = Arrivals()
    queue = Queue(own_stage.names.replies("changed"), {"x-queue-type": "classic"})
    await fragile.declare(queue)
    await fragile.consume(queue.name, arrivals.take, prefetch=5)
    await fragile.delete(queue.name)
    await fragile.declare(Queue(queue.name, {"x-queue-type": "quorum", "x-max-length": 9}))
    await own_broker.control("close_all_connections", "test")
    await fragile.publish(Envelope(b"x", message_id="m"), key=queue.name)
    assert (await arrivals.next()).body == b"x"
    await fragile.delete(queue.name)


async def test_publishing_to_a_broker_that_stays_away_ends(own_stage, own_broker, fragile):
    """After its patience the publisher hears that nothing was confirmed."""
    mailbox = await own_stage.mailbox()
    await own_broker.control("stop_app")
    try:
        publishing = fragile.publish(Envelope(b"x", message_id="m"), key=mailbox, patience=0.5)
        with pytest.raises(Unconfirmed, match=mailbox):
            await asyncio.wait_for(publishing, 5)
        assert not fragile.connected
    finally:
        await own_broker.control("start_app")
    await fragile.publish(Envelope(b"y", message_id="n"), key=mailbox, patience=20)


async def test_a_broker_that_comes_up_late_is_waited_for(own_broker):
    """A worker may be started before its broker."""
    await own_broker.control("stop_app")
    try:
        connecting = asyncio.ensure_future(first_connection(own_broker.url))
        assert not (await asyncio.wait([connecting], timeout=0.3))[0]
    finally:
        await own_broker.control("start_app")
    assert await asyncio.wait_for(connecting, 20)


async def first_connection(url):
    async with connect(url, name="early", patience=20) as broker:
        return broker.connected


async def test_a_broker_that_never_comes_is_unreachable():
    """Patience has an end."""
    (port,) = free_ports(1)
    with pytest.raises(BrokerUnreachable, match=r"within 0\.2 s"):
        await first_connection_within(f"amqp://guest:guest@127.0.0.1:{port}/", 0.2)


async def first_connection_within(url, patience):
    async with connect(url, name="never", patience=patience):
        pytest.fail("there is no broker")
