"""Workers come and go, connections break, the broker restarts: no job is lost, and none is paid for twice."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.client import BrokerUnreachable, TopologyMismatch
from backtalk.local.broker import free_ports
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import RUNGS, topology

pytestmark = pytest.mark.asyncio(loop_scope="module")

BATCH = {"messages": [{"role": "user", "content": "{x}"}], "inputs": {"x": ["quick", "slow"]}}


async def declared(stage):
    """Declare the topology of a stage on which no worker runs yet."""
    await declare(stage.url, topology(stage.names), patience=5)
    return stage


def variable(id, data):
    return {"id": id, "data": data, "role": id, "requires_grad": True}


def feedback():
    """Return feedback on an answer to two variables, which makes two calls."""
    operation = {
        "id": "op",
        "op": "chat_completion",
        "endpoint": "openai",
        "model": "m",
        "messages": [{"role": "user", "content": ["one", "two"]}],
        "outputs": ["answer"],
    }
    answer = {"id": "answer", "data": "No.", "role": "answer", "producer": "op"}
    graph = {"variables": [variable("one", "1"), variable("two", "2"), answer], "operations": [operation]}
    return {"graph": graph, "feedback": [{"variable": "answer", "text": "Be friendlier."}]}


# ---- drain


async def test_a_running_job_finishes_after_the_stop(own_stage, own_broker, job):
    """A worker that is told to stop takes nothing new and finishes what it has."""
    worker = await own_stage.worker(drain_seconds=10)
    own_stage.model.rule(match="first", delay=1.5)
    mailbox, work = await own_stage.mailbox(), own_stage.names.work("forward")
    await own_stage.send(job("first"), message_id="first", reply_to=mailbox)
    await own_stage.calls(1)
    worker.stop()
    await own_stage.until(lambda: unconsumed(own_broker, work))
    await own_stage.send(job("second"), message_id="second", reply_to=mailbox)
    await worker.done()
    answer = await own_stage.take(mailbox)
    assert (answer.json["id"], answer.json["status"]) == ("first", "completed")
    assert await own_stage.depth(work) == 1
    await own_stage.worker()
    assert (await own_stage.take(mailbox)).json["id"] == "second"
    assert own_stage.model.total == 2


async def unconsumed(own_broker, queue):
    return queue not in await own_broker.control("list_consumers")


async def test_a_job_that_outlasts_the_drain_is_handed_back(stage, job):
    """It stands in the work queue as if it had never left: same id, same attempt, no delivery counted."""
    worker = await stage.worker(drain_seconds=0.2)
    stage.model.rule(stall=True)
    mailbox = await stage.mailbox()
    kept = {"message_id": "m", "correlation_id": "c", "reply_to": mailbox, "type": "completion.job.v1"}
    await stage.send(job(), **kept, headers={"x-backtalk-attempt": 2})
    await stage.calls(1)
    await worker.drain()
    back = await stage.take(stage.names.work("forward"))
    assert {name: getattr(back.message, name) for name in kept} == kept
    assert back.json == job()
    assert back.headers["x-backtalk-attempt"] == 2
    assert not back.message.redelivered
    assert back.headers.get("x-delivery-count", 0) == 0
    assert await stage.depth(mailbox) == 0


async def test_another_worker_finishes_what_was_handed_back(stage, job):
    """The sender sees one answer, of the same attempt, and nothing of the change of hands."""
    worker = await stage.worker(drain_seconds=0.1)
    stage.model.rule(times=1, stall=True)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox)
    await stage.calls(1)
    await worker.drain()
    await stage.worker()
    answer = await stage.take(mailbox)
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")
    assert answer.headers["x-backtalk-attempt"] == 0
    assert await stage.depth(stage.names.rung("forward", "5s")) == 0


async def test_a_job_that_waits_to_be_tried_again_is_handed_back_too(stage, job):
    """The drain does not wait for the pause between two tries, and costs the job no attempt."""
    worker = await stage.worker(drain_seconds=0.1)
    stage.model.rule(status=429, retry_after=4)
    await stage.send(job(), message_id="m")
    await stage.calls(1)
    await worker.drain()
    back = await stage.take(stage.names.work("forward"))
    assert (back.id, back.headers.get("x-backtalk-attempt", 0)) == ("m", 0)


async def test_a_paid_part_is_answered_when_the_drain_ends(stage, job):
    """What was paid is not thrown away: the answer is partial, and the message does not come back."""
    worker = await stage.worker(drain_seconds=0.3)
    stage.model.rule(match="slow", stall=True)
    mailbox = await stage.mailbox()
    await stage.send(job(**BATCH), message_id="m", reply_to=mailbox)
    await stage.calls(2)
    await worker.drain()
    answer = (await stage.take(mailbox)).json
    quick, slow = answer["completions"]
    assert answer["status"] == "partial"
    assert quick["choices"][0]["message"]["content"] == "You said: quick"
    assert (slow["error"]["code"], slow["error"]["retryable"]) == ("cancelled", True)
    assert await stage.depth(stage.names.work("forward")) == 0


async def test_paid_gradients_are_answered_when_the_drain_ends(stage):
    """The backward worker answers what it has, too."""
    worker = await stage.worker("backward", drain_seconds=0.5)
    stage.model.rule(match='kind="variable">\n2\n', stall=True)
    mailbox = await stage.mailbox()
    await stage.send(feedback(), role="backward", reply_to=mailbox)
    await stage.calls(2)
    await worker.drain()
    answer = (await stage.take(mailbox)).json
    assert answer["status"] == "partial"
    assert [len(entries) for entries in answer["gradients"].values()] == [1, 0]
    assert answer["failures"][0]["error"]["code"] == "cancelled"


async def test_feedback_that_outlasts_the_drain_unpaid_is_handed_back(stage):
    """The backward worker hands back to its own queue."""
    worker = await stage.worker("backward", drain_seconds=0.1)
    stage.model.rule(stall=True)
    await stage.send(feedback(), role="backward", message_id="m")
    await stage.calls(2)
    await worker.drain()
    assert (await stage.take(stage.names.work("backward"))).id == "m"


async def test_many_jobs_survive_a_change_of_workers(stage, job):
    """Every job of a full worker is finished by it or by the next one, and answered once."""
    worker = await stage.worker(drain_seconds=0.2, concurrency=20)
    stage.model.rule(match="odd", times=10, stall=True)
    mailbox = await stage.mailbox()
    ids = [f"{'odd' if at % 2 else 'even'} {at}" for at in range(40)]
    for id in ids:
        await stage.send(job(id), message_id=id, reply_to=mailbox)
    await stage.calls(10)
    await worker.drain()
    await stage.worker()
    answers = [(await stage.take(mailbox)).json for _ in ids]
    assert sorted(answer["id"] for answer in answers) == sorted(ids)
    assert {answer["status"] for answer in answers} == {"completed"}


# ---- lost connections


async def settled(stage, own_broker):
    """Tell that nothing waits in the work queue and nothing is unacknowledged."""
    told = await own_broker.control("list_queues", "--no-table-headers", "name", "messages")
    counts = dict(line.split() for line in told.splitlines())
    return counts[stage.names.work("forward")] == "0"


async def interrupted(stage, own_broker, job, *commands):
    """Run a job while the broker is told something; return the answers that came, and check that it is settled."""
    await stage.worker()
    stage.model.rule(delay=1.8)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox)
    await stage.calls(1)
    for command in commands:
        await own_broker.control(*command)
    answers = [await stage.take(mailbox)]
    await stage.until(lambda: settled(stage, own_broker))
    return [*answers, *await stage.rest(mailbox)]


@pytest.mark.parametrize(
    "commands",
    [[("close_all_connections", "test")], [("stop_app",), ("start_app",)]],
    ids=["connections closed", "broker restarted"],
)
async def test_a_lost_connection_costs_no_second_call(own_stage, own_broker, job, commands):
    """The model is asked once, the answer has one id, and the message is gone from the queue."""
    answers = await interrupted(own_stage, own_broker, job, *commands)
    assert {answer.json["status"] for answer in answers} == {"completed"}
    assert len({answer.id for answer in answers}) == 1
    assert own_stage.model.total == 1
    assert (await own_stage.ask(job("after"))).json["status"] == "completed"


async def test_a_redelivery_to_another_worker_is_answered_under_the_same_id(own_stage, own_broker, job):
    """Where the lost delivery goes to somebody else, the sender still sees repeats of one answer."""
    await own_stage.worker(concurrency=1)
    await own_stage.worker(concurrency=1)
    own_stage.model.rule(delay=1.5)
    mailbox = await own_stage.mailbox()
    for id in ("a", "b"):
        await own_stage.send(job(id), message_id=id, reply_to=mailbox)
    await own_stage.calls(2)
    await own_broker.control("close_all_connections", "test")
    answers = [await own_stage.take(mailbox), await own_stage.take(mailbox)]
    await own_stage.until(lambda: settled(own_stage, own_broker))
    answers += await own_stage.rest(mailbox)
    assert {answer.json["id"] for answer in answers} == {"a", "b"}
    assert len({answer.id for answer in answers}) == 2
    assert own_stage.model.total <= 4


async def test_a_connection_lost_while_draining_loses_nothing(own_stage, own_broker, job):
    """The answer of a draining worker finds its way although the delivery is lost."""
    worker = await own_stage.worker(drain_seconds=10)
    own_stage.model.rule(times=1, delay=2)
    mailbox = await own_stage.mailbox()
    await own_stage.send(job(), message_id="m", reply_to=mailbox)
    await own_stage.calls(1)
    worker.stop()
    await own_broker.control("close_all_connections", "test")
    await worker.done()
    answer = await own_stage.take(mailbox)
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")


async def test_a_consumer_comes_back_when_its_queue_is_made_anew(stage, job, caplog):
    """A queue that is deleted and declared again is consumed again."""
    await stage.worker()
    work = stage.names.work("forward")
    await stage.delete(work)
    # made anew within the same moment, RabbitMQ 3.10 forgets to tell the consumer
    await stage.until(lambda: "cancelled by the broker" in caplog.text)
    await declared(stage)
    await stage.until(lambda: stage.consumers(work), what="a consumer")
    assert (await stage.ask(job())).json["status"] == "completed"


# ---- the undertaker


def deaths(reason):
    return [{"reason": reason, "queue": "q", "count": 1, "exchange": "", "routing-keys": ["q"]}]


@pytest.mark.parametrize(
    ("x_death", "code"),
    [
        (None, "worker_crashed"),
        (deaths("delivery_limit"), "worker_crashed"),
        ([*deaths("delivery_limit"), *deaths("expired")], "worker_crashed"),
        (deaths("expired"), "deadline_exceeded"),
        ("nonsense", "worker_crashed"),
        (["nonsense"], "worker_crashed"),
        ([], "worker_crashed"),
    ],
    ids=str,
)
async def test_the_sender_of_a_job_that_killed_its_worker_hears_of_it(pair, x_death, code):
    """The undertaker answers without a look at the body, and files the letter with the reason."""
    mailbox, body = await pair.mailbox(), b"{not even JSON"
    kept = {"message_id": "m", "correlation_id": "c", "reply_to": mailbox, "type": "completion.job.v1"}
    headers = {} if x_death is None else {"x-death": x_death}
    await pair.send(body, exchange=pair.names.dlx, key="forward", **kept, headers=headers)
    answer = await pair.take(mailbox, patience=4)
    assert (answer.json["id"], answer.json["status"]) == ("m", "failed")
    assert (answer.error["code"], answer.message.correlation_id) == (code, "c")
    assert answer.error["retryable"] == (code == "worker_crashed")
    letter = await pair.take(pair.names.dead("forward"))
    assert letter.message.body == body
    assert letter.headers["x-backtalk-reason"] == code
    assert "x-death" not in letter.headers
    assert {name: getattr(letter.message, name) for name in kept} == kept
    assert pair.model.total == 0


async def test_a_repeat_of_the_undertakers_answer_has_the_id_of_the_answer(pair, job):
    """A job that was answered and then died of something else is no second answer to its sender."""
    mailbox = await pair.mailbox()
    await pair.send(job(), message_id="m", reply_to=mailbox)
    await pair.send(job(), message_id="m", reply_to=mailbox, exchange=pair.names.dlx, key="forward")
    assert (await pair.take(mailbox)).id == (await pair.take(mailbox)).id


async def test_feedback_that_killed_its_worker_is_buried_by_the_backward_worker(pair):
    """Each role has an undertaker of its own."""
    mailbox = await pair.mailbox()
    await pair.send(b"{}", reply_to=mailbox, exchange=pair.names.dlx, key="backward")
    answer = await pair.take(mailbox)
    assert (answer.message.type, answer.error["code"]) == ("gradients.v1", "worker_crashed")
    assert (await pair.take(pair.names.dead("backward"))).message.body == b"{}"


async def test_a_job_without_an_address_is_buried_too(pair):
    """The answer is kept where answers without an address are."""
    await pair.send(b"{}", message_id="m", exchange=pair.names.dlx, key="forward")
    kept = await pair.take(pair.names.kept_results)
    assert (kept.json["id"], kept.message.routing_key) == ("m", "forward.failed")


async def test_a_job_that_is_given_back_too_often_is_answered(stage, job):
    """After 101 deliveries the broker gives up, and the next worker tells the sender."""
    await declared(stage)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox)
    for _ in range(101):
        await stage.drop(stage.names.work("forward"))
    await stage.worker()
    answer = await stage.take(mailbox)
    assert (answer.json["id"], answer.error["code"]) == ("m", "worker_crashed")
    assert (await stage.take(stage.names.dead("forward"))).headers["x-backtalk-reason"] == "worker_crashed"
    assert stage.model.total == 0


async def test_a_hundred_lost_deliveries_do_no_harm(stage, job):
    """It is a suspect by then, and done in a process of its own."""
    await declared(stage)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox)
    for _ in range(100):
        await stage.drop(stage.names.work("forward"))
    await stage.worker()
    assert (await stage.take(mailbox)).json["status"] == "completed"


async def test_a_job_that_expired_in_the_queue_is_answered(stage, job):
    """A sender's own expiration is a deadline: it is told so by the first worker that comes."""
    await declared(stage)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox, expiration="1")
    await stage.until(lambda: stage.depth(stage.names.crashed("forward")), what="a dead letter")
    await stage.worker()
    answer = await stage.take(mailbox)
    assert (answer.json["id"], answer.error["code"]) == ("m", "deadline_exceeded")
    letter = await stage.take(stage.names.dead("forward"))
    assert letter.headers["x-backtalk-reason"] == "deadline_exceeded"
    assert stage.model.total == 0


# ---- the start


async def test_declaring_twice_changes_nothing(stage):
    """Every worker declares everything at its start."""
    await declared(stage)
    await stage.send(b"waiting", message_id="m")
    await declared(stage)
    assert (await stage.take(stage.names.work("forward"))).content == b"waiting"


async def test_the_whole_topology_is_there_once_a_worker_is_ready(stage):
    """Each role declares the queues of both, so that senders need not wait for the other."""
    await stage.worker("backward")
    names = stage.names
    for role in ("forward", "backward"):
        rungs = [names.rung(role, rung) for rung in RUNGS]
        for queue in (names.work(role), names.crashed(role), names.dead(role), *rungs):
            assert await stage.depth(queue) == 0
    assert await stage.depth(names.kept_results) == 0


@pytest.mark.parametrize(
    ("role", "argument", "found"),
    [("work", "x-delivery-limit", 3), ("rung", "x-message-ttl", 7000), ("dead", "x-max-length", 9)],
)
async def test_a_queue_with_other_arguments_stops_the_start(stage, role, argument, found):
    """The error names the queue, the argument, what was wanted and what was found, and the ways out."""
    names = {
        "work": stage.names.work("forward"),
        "rung": stage.names.rung("forward", "5s"),
        "dead": stage.names.dead("forward"),
    }
    (queue,) = [queue for queue in topology(stage.names).queues if queue.name == names[role]]
    await stage.mailbox(queue.name, **{**queue.arguments, argument: found})
    with pytest.raises(TopologyMismatch) as caught:
        await stage.worker()
    told = str(caught.value)
    assert f"queue {queue.name} " in told
    assert argument in told
    assert str(queue.arguments.get(argument, "none")) in told.partition("wanted ")[2].partition(", found")[0]
    assert str(found) in told.partition("found ")[2]
    assert "BACKTALK_NAMESPACE" in told


async def test_an_exchange_of_another_kind_stops_the_start(stage):
    """Exchanges are compared by the broker as queues are."""
    await stage.exchange(stage.names.jobs, "fanout")
    with pytest.raises(
        TopologyMismatch, match=f"exchange {stage.names.jobs} .*wanted .*topic.*found .*fanout"
    ):
        await stage.worker()


async def test_a_worker_without_a_broker_gives_up_in_time(stage):
    """It waits as long as it was told to and says what it tried."""
    (port,) = free_ports(1)
    with pytest.raises(BrokerUnreachable, match=r"within 0\.2 s"):
        await stage.worker(amqp_url=f"amqp://guest:guest@127.0.0.1:{port}/", connect_seconds=0.2)


async def test_a_wrong_password_is_not_tried_again(stage):
    """Waiting would not make it right."""
    url = stage.url.replace("guest:guest", "guest:wrong")
    with pytest.raises(BrokerUnreachable, match="user, password or vhost"):
        await asyncio.wait_for(stage.worker(amqp_url=url, connect_seconds=60), 10)
