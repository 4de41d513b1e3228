"""What a message says besides its body: ids, addresses, encodings, deadlines, and what a sender may leave out."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest

VARIABLE = {"id": "prompt", "data": "Be kind.", "role": "system prompt", "requires_grad": True}


pytestmark = pytest.mark.asyncio(loop_scope="module")


def in_seconds(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# ---- what may be left out


async def test_without_a_message_id_the_same_message_is_the_same_work(pair, job):
    """The id is the hash of body, reply_to and correlation_id, so a repeat has the id, and the answer too."""
    mailbox, other = await pair.mailbox(), await pair.mailbox()
    body = job(backtalk={"record": "always"})
    sent = [
        (body, {"reply_to": mailbox}),
        (body, {"reply_to": mailbox}),
        (body, {"reply_to": mailbox, "correlation_id": "c"}),
        (body, {"reply_to": other}),
        (job("Hello again"), {"reply_to": mailbox}),
    ]
    answers = []
    for content, properties in sent:
        await pair.send_bare(content, **properties)
        answers.append(await pair.take(properties["reply_to"]))
    first, again, *others = answers
    assert again.id == first.id
    assert [again.json[name] for name in ("id", "outputs", "graph")] == [
        first.json[name] for name in ("id", "outputs", "graph")
    ]
    assert len({answer.json["id"] for answer in (first, *others)}) == 4
    assert len({answer.id for answer in (first, *others)}) == 4


async def test_a_body_that_cannot_be_read_has_an_id_too(pair):
    """Junk without an id is answered and filed under the hash of what came."""
    mailbox = await pair.mailbox()
    await pair.send_bare(b"junk", reply_to=mailbox)
    first = await pair.take(mailbox)
    await pair.send_bare(b"junk", reply_to=mailbox)
    again = await pair.take(mailbox)
    assert first.json["id"] == again.json["id"] != ""
    assert first.id == again.id
    letter = await pair.take(pair.names.dead("forward"))
    assert letter.id == first.json["id"]


async def test_the_correlation_id_falls_back_to_the_id(pair, job):
    """Who sent no correlation id finds the answer by the id of the request."""
    assert (await pair.ask(job(), message_id="m")).message.correlation_id == "m"
    answer = await pair.ask(job(), message_id="m", correlation_id="c")
    assert (answer.message.correlation_id, answer.json["id"]) == ("c", "m")


@pytest.mark.parametrize("type", [None, "", "completion.job.v1"])
async def test_the_queue_decides_where_no_type_is_given(pair, job, type):
    """A type is needed by nobody; the answer has one."""
    answer = await pair.ask(job(), type=type)
    assert (answer.json["status"], answer.message.type) == ("completed", "completion.result.v1")


@pytest.mark.parametrize(
    ("role", "body"),
    [
        ("forward", {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
        ("backward", {"graph": {"variables": [VARIABLE]}, "feedback": [{"variable": "prompt", "text": "x"}]}),
    ],
)
@pytest.mark.parametrize("reply_to", [None, ""])
async def test_without_an_address_an_answer_is_kept_for_a_week(pair, role, body, reply_to):
    """It goes to the results exchange, and where nobody is bound to the queue that keeps it."""
    await pair.send(body, role=role, message_id="m", reply_to=reply_to)
    kept = await pair.take(pair.names.kept_results)
    assert (kept.json["id"], kept.json["status"]) == ("m", "completed")
    assert kept.message.routing_key == f"{role}.completed"
    assert "x-reply-to" not in kept.headers


async def test_who_listens_to_the_results_gets_what_has_no_address(pair, job):
    """A queue bound to the results exchange takes the answer, and nothing is kept beside it."""
    mailbox = await pair.mailbox()
    await pair.bind(mailbox, pair.names.results, "forward.#")
    await pair.send(job(), message_id="good")
    await pair.send(b"bad", message_id="bad")
    answers = {letter.json["id"]: letter for letter in [await pair.take(mailbox), await pair.take(mailbox)]}
    assert {id: letter.message.routing_key for id, letter in answers.items()} == {
        "good": "forward.completed",
        "bad": "forward.failed",
    }
    assert await pair.depth(pair.names.kept_results) == 0


@pytest.mark.parametrize("key", ["forward", "forward.anything", "forward.tenant.42"])
async def test_jobs_may_be_published_to_the_jobs_exchange(pair, job, key):
    """Every key below the role leads to the work queue."""
    answer = await pair.ask(job(), exchange=pair.names.jobs, key=key)
    assert answer.json["status"] == "completed"


# ---- addresses


async def test_a_direct_reply_to_is_answered(pair, job):
    """The broker's own short-cut for callers works: such an answer is not sent back as unroutable."""
    connection = await aio_pika.connect(pair.url)
    async with connection:
        channel = await connection.channel()
        answered = asyncio.get_running_loop().create_future()
        direct = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await direct.consume(answered.set_result, no_ack=True)
        message = aio_pika.Message(json.dumps(job()).encode(), reply_to=direct.name, correlation_id="c")
        await channel.default_exchange.publish(message, routing_key=pair.names.work("forward"))
        answer = await asyncio.wait_for(answered, 10)
    assert (answer.correlation_id, json.loads(answer.body)["status"]) == ("c", "completed")
    assert await pair.depth(pair.names.kept_results) == 0


async def test_an_answer_to_a_queue_that_does_not_exist_is_kept(pair, job):
    """It is found among the kept results with the address it was meant for, under the same message id."""
    mailbox = await pair.mailbox()
    await pair.send(job(), message_id="m", reply_to="nobody's", correlation_id="c")
    kept = await pair.take(pair.names.kept_results)
    assert (kept.headers["x-reply-to"], kept.json["id"], kept.message.correlation_id) == (
        "nobody's",
        "m",
        "c",
    )
    assert kept.json["status"] == "completed"
    # the job before was settled, and its return disturbed nobody
    await pair.send(job(), reply_to=mailbox)
    assert (await pair.take(mailbox)).json["status"] == "completed"


async def full_mailbox(pair):
    limits = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    mailbox = await pair.mailbox(**limits)
    await pair.send(b"in the way", key=mailbox)
    return mailbox


async def test_an_answer_that_a_full_queue_refuses_thrice_is_kept(pair, job):
    """The sender's full queue does not hold the worker up for ever."""
    mailbox = await full_mailbox(pair)
    await pair.send(job(), message_id="m", reply_to=mailbox)
    kept = await pair.take(pair.names.kept_results)
    assert (kept.headers["x-reply-to"], kept.json["id"]) == (mailbox, "m")
    assert await pair.depth(mailbox) == 1
    assert pair.model.total == 1


async def test_an_answer_waits_a_moment_for_room(pair, job):
    """A queue that is full just now is tried again before the answer is put aside."""
    mailbox = await full_mailbox(pair)
    await pair.send(job(), message_id="m", reply_to=mailbox)
    await pair.calls(1)
    assert (await pair.take(mailbox)).content == b"in the way"
    assert (await pair.take(mailbox)).json["id"] == "m"


# ---- the same job twice


async def test_a_job_sent_again_while_it_runs_joins_it(pair, job):
    """One model call, and every address gets the answer."""
    pair.model.rule(delay=0.5)
    first, second = await pair.mailbox(), await pair.mailbox()
    for address in (first, second):
        await pair.send(job(), message_id="m", reply_to=address)
    one, two = await pair.take(first), await pair.take(second)
    assert one.json == two.json
    assert one.id != two.id
    assert pair.model.total == 1


async def test_repeats_to_one_address_have_one_id(pair, job):
    """A receiver tells the repeats of an answer by its message id; correlation ids are each sender's own."""
    pair.model.rule(delay=0.5)
    mailbox = await pair.mailbox()
    for correlation_id in ("a", "b"):
        await pair.send(job(), message_id="m", reply_to=mailbox, correlation_id=correlation_id)
    answers = [await pair.take(mailbox), await pair.take(mailbox)]
    assert {answer.message.correlation_id for answer in answers} == {"a", "b"}
    assert len({answer.id for answer in answers}) == 1
    assert pair.model.total == 1


async def test_the_same_message_thrice_is_answered_under_one_id(pair, job):
    """A sender that repeats itself word for word gets an answer, all copies of it alike."""
    pair.model.rule(delay=0.5)
    mailbox = await pair.mailbox()
    for _ in range(3):
        await pair.send(job(), message_id="m", reply_to=mailbox)
    first = await pair.take(mailbox)
    # answered later than the three, so that all their answers are there
    await pair.send(job("last"), message_id="last", reply_to=mailbox)
    ids = [first.id]
    while (letter := await pair.take(mailbox)).json["id"] != "last":
        ids.append(letter.id)
    assert len(set(ids)) == 1
    assert pair.model.total == 2


async def test_an_id_with_another_body_is_another_job(pair, job):
    """A sender who uses an id twice for different things gets both done."""
    pair.model.rule(delay=0.3)
    mailbox = await pair.mailbox()
    for text in ("one", "two"):
        await pair.send(job(text), message_id="m", reply_to=mailbox)
    answers = [await pair.take(mailbox), await pair.take(mailbox)]
    assert {answer.json["completions"][0]["choices"][0]["message"]["content"] for answer in answers} == {
        "You said: one",
        "You said: two",
    }
    assert len({answer.id for answer in answers}) == 2


# ---- encodings and sizes


@pytest.mark.parametrize("text", ["short", "long" * 20_000])
@pytest.mark.parametrize("asked", ["gzip body", "header", "nothing", "identity", "utf-8"])
async def test_an_answer_is_gzipped_only_for_those_who_can_read_it(pair, job, text, asked):
    """Who sent gzip or asks for it gets it above 64 KiB; everybody else gets plain JSON of any size."""
    body = json.dumps(job(text, backtalk={"record": "always"})).encode()
    properties = {
        "gzip body": {"content_encoding": "gzip"},
        "header": {"headers": {"x-backtalk-accept-encoding": "gzip"}},
        "nothing": {},
    }.get(asked, {"content_encoding": asked})
    answer = await pair.ask(gzip.compress(body) if asked == "gzip body" else body, **properties)
    reads_gzip = asked in ("gzip body", "header")
    assert answer.message.content_encoding == ("gzip" if reads_gzip and len(text) > 64 * 1024 else None)
    assert answer.json["graph"]["variables"][0]["data"] == text


async def test_the_content_type_is_not_looked_at(pair, job):
    """Senders label JSON in many ways."""
    answer = await pair.ask(job(), content_type="text/plain; charset=latin-1")
    assert answer.json["status"] == "completed"
    assert answer.message.content_type == "application/json"


async def test_a_result_that_is_too_large_is_sent_without_its_graph(pair, job):
    """The completions are what was paid for; the graph is said to be omitted."""
    pair.model.rule(reply="x" * 5 * 2**20)
    answer = (await pair.ask(job(backtalk={"record": "always", "metadata": {"a": 1}}))).json
    assert (answer["status"], answer["graph"], answer["graph_omitted"]) == ("completed", None, True)
    assert len(answer["completions"][0]["choices"][0]["message"]["content"]) == 5 * 2**20
    assert answer["metadata"] == {"a": 1}


async def test_a_result_that_is_too_large_without_its_graph_is_a_failure(pair, job):
    """Also then the sender hears of it, the usage is not forgotten, and the others are not disturbed."""
    pair.model.rule(match="large", reply="x" * 9 * 2**20)
    mailbox = await pair.mailbox()
    await pair.send(job("large", backtalk={"metadata": {"a": 1}}), message_id="large", reply_to=mailbox)
    await pair.send(job("small"), message_id="small", reply_to=mailbox)
    answers = [(await pair.take(mailbox)).json, (await pair.take(mailbox)).json]
    large, small = sorted(answers, key=lambda answer: answer["id"])
    assert small["status"] == "completed"
    assert (large["status"], large["error"]["code"]) == ("failed", "payload_too_large")
    assert large["metadata"] == {"a": 1}
    assert await pair.depth(pair.names.work("forward")) == 0


async def test_metadata_that_leave_no_room_for_an_answer_are_left_out_of_it(stage, job):
    """A request just below the cap is answered although its metadata alone fill the answer."""
    await stage.worker()
    metadata = {"notes": "x" * (8 * 2**20 - 200)}
    answer = (await stage.ask(job(backtalk={"metadata": metadata}), patience=5)).json
    assert (answer["status"], answer["error"]["code"]) == ("failed", "payload_too_large")
    assert (await stage.ask(job(), patience=5)).json["status"] == "completed"


# ---- attempt, metadata, deadline


@pytest.mark.parametrize("attempt", [0, 3])
async def test_an_answer_tells_the_attempt(pair, job, attempt):
    """Attempts count from 0 and are carried by the message."""
    headers = {"x-backtalk-attempt": attempt} if attempt else {}
    assert (await pair.ask(job(), headers=headers)).headers["x-backtalk-attempt"] == attempt


@pytest.mark.parametrize("fields", [{}, {"inputs": {"unused": "x"}}], ids=["completed", "failed"])
async def test_metadata_comes_back_unchanged(pair, job, fields):
    """What a sender notes on a job stands on its answer, whatever becomes of it."""
    metadata = {"customer": "Ö", "nested": {"list": [1, 2.5, None, True]}}
    answer = await pair.ask(job(**fields, backtalk={"metadata": metadata}))
    assert answer.json["metadata"] == metadata
    assert all("metadata" not in call.arguments for call in pair.model.calls)


async def test_a_job_past_its_deadline_is_not_run(pair, job):
    """Nobody waits for it, so nothing is spent on it."""
    answer = await pair.ask(job(backtalk={"deadline": in_seconds(-1), "metadata": {"a": 1}}))
    assert (answer.json["status"], answer.error["code"]) == ("failed", "deadline_exceeded")
    assert "backtalk/deadline" in answer.error["message"]
    assert answer.json["metadata"] == {"a": 1}
    assert pair.model.total == 0
    assert await pair.depth(pair.names.dead("forward")) == 0


async def test_a_deadline_during_the_run_ends_it(pair, job):
    """The sender hears of it at the deadline, not when the endpoint is done."""
    pair.model.rule(stall=True)
    answer = await pair.ask(job(backtalk={"deadline": in_seconds(0.5)}), patience=5)
    assert (answer.json["status"], answer.error["code"]) == ("failed", "deadline_exceeded")
    assert await pair.depth(pair.names.rung("forward", "5s")) == 0


async def test_a_deadline_during_a_batch_keeps_what_was_paid(pair, job):
    """Items that were done in time are in the answer."""
    pair.model.rule(match="slow", stall=True)
    answer = await pair.ask(
        job("{x}", inputs={"x": ["quick", "slow"]}, backtalk={"deadline": in_seconds(0.7)}), patience=5
    )
    quick, slow = answer.json["completions"]
    assert answer.json["status"] == "partial"
    assert quick["choices"][0]["message"]["content"] == "You said: quick"
    assert slow["error"]["code"] == "deadline_exceeded"


async def test_a_deadline_in_the_future_is_no_hindrance(pair, job):
    """A deadline is not passed on to the endpoint either."""
    answer = await pair.ask(job(backtalk={"deadline": in_seconds(60)}))
    assert answer.json["status"] == "completed"
    assert pair.model.calls[0].arguments == {}


async def test_ids_of_a_repeated_job_are_the_same(pair, job):
    """What the worker names, it names after the work: a job run a second time writes the same graph."""
    body = job(backtalk={"record": "always"})
    key = uuid.uuid4().hex
    graphs = [(await pair.ask(body, message_id=key)).json["graph"] for _ in range(2)]
    packed = await pair.ask(gzip.compress(json.dumps(body).encode()), message_id=key, content_encoding="gzip")
    other = await pair.ask(body, message_id=hashlib.sha256(key.encode()).hexdigest())
    assert graphs[0] == graphs[1] == packed.json["graph"]
    assert other.json["outputs"] != packed.json["outputs"]
