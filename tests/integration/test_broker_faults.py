"""What a broker and the network before it can do to workers: no job is lost, and each is answered under one id."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio
from fixtures.network import Network
from structlog.testing import capture_logs

from backtalk.client import QueueFull
from backtalk.transport.envelope import Envelope
from backtalk.transport.rabbitmq import broker as broker_module
from backtalk.transport.rabbitmq import connect, declare
from backtalk.transport.topology import topology
from forward_worker.complete import complete
from forward_worker.tools.inject import toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

USUAL_CONSUMER_TIMEOUT = 7_200_000


@pytest_asyncio.fixture(loop_scope="module")
async def network(broker):
    """Return a network before the shared broker."""
    async with Network(broker.url, heartbeat=1) as network:
        yield network


@pytest_asyncio.fixture(loop_scope="module")
async def distant(network, new_stage):
    """Return a stage whose workers may be given the network's address; they end before it does."""
    async with new_stage() as stage:
        yield stage


async def all_done(stage):
    """Wait until the work queue is empty and whatever was delivered is settled, then do one more job."""
    last = await stage.ask({"model": "m", "messages": [{"role": "user", "content": "after"}]})
    assert last.json["status"] == "completed"
    work = stage.names.work("forward")
    await stage.until(lambda: empty(stage, work), what="an empty work queue")


async def empty(stage, queue):
    return await stage.depth(queue) == 0


# ---- the network


async def test_a_network_that_falls_silent_is_noticed_and_costs_no_second_call(distant, network, job):
    """Heartbeats fail, the worker is not ready, comes back, and the work that went on meanwhile is joined."""
    worker = await distant.worker(amqp_url=network.url)
    distant.model.rule(delay=1.0)
    mailbox = await distant.mailbox()
    await distant.send(job(), message_id="m", reply_to=mailbox)
    await distant.calls(1)
    network.fall_silent()
    await distant.until(lambda: not worker.progress.conditions()["connected"], what="a lost connection")
    assert not worker.progress.conditions()["ready"]
    network.restore()
    answer = await distant.take(mailbox)
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")
    await distant.until(lambda: worker.progress.conditions()["ready"], what="a worker that is ready again")
    await all_done(distant)
    assert {letter.id for letter in await distant.rest(mailbox)} <= {answer.id}
    assert distant.model.total == 2


@pytest.mark.parametrize("sender", ["worker", "broker"], ids=["of a message", "of an answer"])
async def test_an_acknowledgement_that_is_lost_costs_no_second_call(distant, network, job, sender):
    """It was sent and never arrived: what comes again finds its work done, and has its answer's id."""
    await distant.worker(amqp_url=network.url)
    mailbox, lost = await distant.mailbox(), asyncio.Event()
    network.lose_next_ack(sender, lost.set)
    await distant.send(job(), message_id="m", reply_to=mailbox)
    answer = await distant.take(mailbox)
    await asyncio.wait_for(lost.wait(), 5)
    await distant.until(lambda: distant.consumers(distant.names.work("forward")), what="a consumer")
    await all_done(distant)
    assert {letter.id for letter in await distant.rest(mailbox)} <= {answer.id}
    assert distant.model.total == 2


async def test_with_a_store_a_call_in_flight_is_not_repeated_by_who_gets_the_redelivery(
    distant, network, job, redis
):
    """One worker is cut off in the middle of a call; another has the message, waits, and answers with that call."""
    await distant.worker(amqp_url=network.url, result_store=redis)
    distant.model.rule(delay=1.0)
    mailbox = await distant.mailbox()
    await distant.send(job(), message_id="m", reply_to=mailbox)
    await distant.calls(1)
    await distant.worker(result_store=redis)
    network.cut()
    answer = await distant.take(mailbox)
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")
    network.restore()
    await distant.until(lambda: distant.depth(mailbox), what="the answer of the other worker")
    assert {letter.id for letter in await distant.rest(mailbox)} == {answer.id}
    assert distant.model.total == 1


# ---- queues that go


async def test_a_job_in_hand_is_answered_although_its_queue_was_deleted(stage, job):
    """What was taken is done, and its sender hears of it."""
    await stage.worker()
    stage.model.rule(delay=0.3)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox)
    await stage.calls(1)
    await stage.delete(stage.names.work("forward"))
    assert (await stage.take(mailbox)).json["status"] == "completed"


async def test_a_work_queue_that_was_deleted_is_made_anew(stage, job):
    """The worker declares it and binds it: jobs by either way reach it without anybody's help."""
    await stage.worker()
    await stage.delete(stage.names.work("forward"))
    mailbox = await stage.mailbox()
    ways = ({"exchange": stage.names.jobs, "key": "forward.x"}, {})
    for at, way in enumerate(ways):

        async def sent(at=at, way=way):
            await stage.send(job(), message_id=f"m{at}", reply_to=mailbox, **way)
            return True

        await stage.until(sent, patience=6, what=f"a queue that takes jobs by {way or 'its name'}")
        assert (await stage.take(mailbox)).json["status"] == "completed"


async def test_a_worker_whose_queue_is_gone_is_not_ready(stage, job):
    """One that may not make it anew consumes nothing, and says so until somebody else has made it."""
    await declare(stage.url, topology(stage.names), patience=5)
    worker = await stage.worker(topology="check")
    await stage.delete(stage.names.work("forward"))
    await stage.until(
        lambda: not worker.progress.conditions()["ready"], patience=5, what="a worker not ready"
    )
    await declare(stage.url, topology(stage.names), patience=5)
    await stage.until(lambda: worker.progress.conditions()["ready"], what="a worker that is ready again")
    assert (await stage.ask(job())).json["status"] == "completed"


async def test_a_connection_that_comes_back_to_a_missing_queue_works_again_when_it_is_there(
    distant, network, job
):
    """Until then it is not ready; nobody has to start it anew."""
    await declare(distant.url, topology(distant.names), patience=5)
    worker = await distant.worker(amqp_url=network.url, topology="check")
    network.cut()
    await distant.delete(distant.names.work("forward"))
    await distant.until(lambda: not worker.progress.conditions()["ready"], what="a lost connection")
    network.restore()
    await declare(distant.url, topology(distant.names), patience=5)
    await distant.until(lambda: worker.progress.conditions()["ready"], what="a worker that is ready again")
    assert (await distant.ask(job())).json["status"] == "completed"


async def test_a_job_that_is_handed_back_to_a_queue_that_is_gone_is_not_lost(stage, job):
    """The queue is made anew for it, and bound as it was."""
    worker = await stage.worker(drain_seconds=0.1)
    stage.model.rule(stall=True)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox)
    await stage.calls(1)
    work = stage.names.work("forward")
    await stage.delete(work)
    await worker.drain()
    assert (await stage.take(work)).id == "m"
    await stage.send(job(), message_id="n", exchange=stage.names.jobs, key="forward.x")
    assert (await stage.take(work)).id == "n"


# ---- queues that are full


@asynccontextmanager
async def limited(own_broker, queue, most=1):
    """Let a queue hold so many messages at most."""
    policy = ("limits", f"^{queue}$", f'{{"max-length": {most}}}', "--apply-to", "queues")
    await own_broker.control("set_policy", *policy)
    try:
        yield
    finally:
        await own_broker.control("clear_policy", "limits")


@asynccontextmanager
async def full(stage, own_broker, queue):
    """Fill a queue until it takes no more; at the end of the block its messages are taken."""
    async with limited(own_broker, queue), connect(stage.url, name="test", patience=5) as connected:
        with pytest.raises(QueueFull):
            await fill(connected, queue)
        yield
        await stage.rest(queue)


async def fill(connected, queue):
    for _ in range(100):
        await connected.publish(Envelope(b"filler", message_id="filler"), key=queue)


async def test_a_job_is_handed_back_as_soon_as_its_full_queue_has_room(own_stage, own_broker, job):
    """The worker insists for as long as its last moments allow."""
    worker = await own_stage.worker(concurrency=1, drain_seconds=0.1)
    own_stage.model.rule(stall=True)
    mailbox, work = await own_stage.mailbox(), own_stage.names.work("forward")
    await own_stage.send(job(), message_id="m", reply_to=mailbox)
    await own_stage.calls(1)
    with capture_logs() as logs:
        async with full(own_stage, own_broker, work):
            worker.stop()
            await own_stage.until(lambda: told(logs, "queue is full"), what="a queue that is full")
        await worker.done()
    (back,) = await own_stage.rest(work)
    assert (back.id, back.message.redelivered) == ("m", False)
    assert await own_stage.depth(mailbox) == 0


def told(logs, event):
    return [line for line in logs if line["event"] == event]


async def test_a_job_is_put_off_as_soon_as_its_full_rung_has_room(own_stage, own_broker, job):
    """Until then it stays unacknowledged, and is not answered either."""
    await own_stage.worker()
    own_stage.model.rule(status=503, delay=0.2)
    mailbox, rung = await own_stage.mailbox(), own_stage.names.rung("forward", "5s")
    with capture_logs() as logs:
        async with full(own_stage, own_broker, rung):
            await own_stage.send(job(), message_id="m", reply_to=mailbox)
            await own_stage.until(lambda: told(logs, "queue is full"), what="a rung that is full")
            assert await own_stage.depth(mailbox) == 0
        put_off = await own_stage.take(rung)
    assert (put_off.id, put_off.headers["x-backtalk-attempt"]) == ("m", 1)


# ---- alarms


# and wait until the broker has noticed
ALARM = """
vm_memory_monitor:set_vm_memory_high_watermark(0.00001),
(fun Wait(0) -> timeout;
     Wait(N) -> case rabbit_alarm:get_alarms() of [] -> timer:sleep(50), Wait(N - 1); Alarms -> Alarms end
 end)(200).
"""


@asynccontextmanager
async def alarm(own_broker):
    """Have the broker believe that it has no memory left: it reads nothing from who publishes."""
    told = await own_broker.control("eval", ALARM)
    assert "memory" in told
    try:
        yield
    finally:
        await own_broker.control("set_vm_memory_high_watermark", "absolute", "2GB")


class Held:
    """The handler of a forward worker that asks the model when it is let go; `ids` are those of its jobs."""

    def __init__(self):
        self.ids = []
        self.go = asyncio.Event()
        self._handle = partial(complete, toolbox=toolbox(None, {}))

    async def __call__(self, request, /, *, model, emit):
        self.ids.append(request.id)
        await self.go.wait()
        return await self._handle(request, model=model, emit=emit)


async def held(own_stage, job, count):
    """Start a worker and have it hold so many jobs; return it, its handler and where the answers go."""
    handle, mailbox = Held(), await own_stage.mailbox()
    worker = await own_stage.worker(handle=handle)
    for at in range(count):
        await own_stage.send(job(), message_id=f"m{at}", reply_to=mailbox)
    await own_stage.until(lambda: len(handle.ids) == count)
    return worker, handle, mailbox


async def nothing_comes(stage, queue):
    """Tell that a queue stays empty for longer than two confirms are waited for."""
    await asyncio.sleep(1.5)
    return await empty(stage, queue)


@pytest.fixture
def impatient(monkeypatch):
    """Have a confirm waited for so briefly that an alarm outlasts it."""
    monkeypatch.setattr(broker_module, "CONFIRM_SECONDS", 0.5)


async def test_a_memory_alarm_loses_no_answer(own_stage, own_broker, job, impatient):
    """What could not be published is when the alarm is over, under its id; no call is made twice."""
    worker, handle, mailbox = await held(own_stage, job, 5)
    async with alarm(own_broker):
        handle.go.set()
        await own_stage.calls(5)
        assert await nothing_comes(own_stage, mailbox)
        assert worker.progress.conditions()["connected"]
    answers = [await own_stage.take(mailbox) for _ in range(5)]
    await all_done(own_stage)
    answers += await own_stage.rest(mailbox)
    assert {answer.json["id"] for answer in answers} == {f"m{at}" for at in range(5)}
    assert len({answer.id for answer in answers}) == 5
    assert own_stage.model.total == 6


async def test_a_memory_alarm_does_not_multiply_jobs(own_stage, own_broker, job, impatient):
    """What the broker did not read yet is not sent again and again: one job, one copy on the rung."""
    own_stage.model.rule(status=503)
    rung = own_stage.names.rung("forward", "5s")
    _, handle, _ = await held(own_stage, job, 3)
    async with alarm(own_broker):
        handle.go.set()
        # the third try of a call is the last
        await own_stage.calls(9)
        assert await nothing_comes(own_stage, rung)
    await own_stage.until(lambda: own_stage.depth(rung), what="jobs on the rung")
    work = own_stage.names.work("forward")
    await own_stage.until(lambda: settled(own_broker, work), what="settled jobs")
    assert sorted(letter.id for letter in await own_stage.rest(rung)) == ["m0", "m1", "m2"]


async def settled(own_broker, queue):
    """Tell that nothing waits in a queue, and nothing of it is unacknowledged."""
    told = await own_broker.control("list_queues", "--no-table-headers", "name", "messages")
    return dict(line.split() for line in told.splitlines())[queue] == "0"


async def test_a_worker_that_may_not_publish_is_not_ready(own_stage, own_broker, job):
    """During an alarm it can answer nobody; it is connected all the while, and ready again when it is over."""
    worker, handle, mailbox = await held(own_stage, job, 1)
    async with alarm(own_broker):
        handle.go.set()
        await own_stage.until(
            lambda: not worker.progress.conditions()["ready"], patience=3, what="a worker that is not ready"
        )
    await own_stage.until(lambda: worker.progress.conditions()["ready"], what="a worker that is ready again")
    assert (await own_stage.take(mailbox)).json["status"] == "completed"


# ---- the consumer timeout


async def test_a_job_that_outlasts_the_brokers_consumer_timeout_is_joined(own_stage, own_broker, job):
    """The broker closes the channel and delivers again: the call goes on, and the log tells which job it was."""
    await timeout_after(own_broker, 1000, tick=300)
    try:
        worker = await own_stage.worker()
        own_stage.model.rule(delay=3.5, times=1)
        mailbox = await own_stage.mailbox()
        with capture_logs() as logs:
            await own_stage.send(job(), message_id="m", reply_to=mailbox)
            answer = await own_stage.take(mailbox)
            await own_stage.until(lambda: {line["acked"] for line in told(logs, "answered")} == {True, False})
    finally:
        await timeout_after(own_broker, USUAL_CONSUMER_TIMEOUT, tick=60_000)
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")
    await own_stage.until(lambda: worker.progress.conditions()["ready"], what="a worker that is ready")
    await all_done(own_stage)
    assert {letter.id for letter in await own_stage.rest(mailbox)} <= {answer.id}
    assert own_stage.model.total == 2


async def timeout_after(own_broker, milliseconds, *, tick):
    await own_broker.control(
        "eval",
        f"application:set_env(rabbit, consumer_timeout, {milliseconds}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick}).",
    )


async def test_a_close_of_all_connections_makes_no_suspects(own_stage, own_broker, job, capsys):
    """Each message is handed on from one consumer to the next, and counted each time, although nobody died."""
    for _ in range(4):
        await own_stage.worker(concurrency=4)
    own_stage.model.rule(delay=1.0)
    mailbox = await own_stage.mailbox()
    for at in range(16):
        await own_stage.send(job(), message_id=f"m{at}", reply_to=mailbox)
    await own_stage.calls(16)
    await own_broker.control("close_all_connections", "test")
    answers = {(await own_stage.take(mailbox)).json["id"] for _ in range(16)}
    assert answers == {f"m{at}" for at in range(16)}
    assert "isolated" not in capsys.readouterr().out
