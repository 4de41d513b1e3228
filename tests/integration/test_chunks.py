"""Partial output on a real broker: what a handler emits, in the reply queue and at the client."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import aclosing
from functools import partial

import aio_pika
import pytest
from structlog.testing import capture_logs

from backtalk.client import Refused, Unroutable
from backtalk.runtime import emit
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology
from backtalk.wire.chunk import CompletionChunk
from backtalk.wire.jobs import CompletionJob, CompletionResult

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHUNK = "completion.chunk.v1"
RESULT = "completion.result.v1"
HI = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def chunk(text, *, run="run", item=0, finish_reason="length"):
    """Return a chunk that is not joined with others unless its `finish_reason` is None."""
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]
    return CompletionChunk(run=run, item=item, choice=0, choices=choices, id="chatcmpl-1", model="m")


def done(request):
    """Return the result of a job: its text is that of the request."""
    text = request.body.messages[0].content
    message = {"role": "assistant", "content": text if isinstance(text, str) else text[0]}
    completions = ({"choices": [{"index": 0, "message": message}]},)
    return CompletionResult(id=request.id, status="completed", completions=completions)


def saying(*chunks, then=None):
    """Return a handler that emits these chunks and then does something."""

    async def handle(request, *, model, emit):
        for one in chunks:
            emit(one)
        if then:
            await then(emit)
        return done(request)

    return handle


async def echo(request, *, model, emit):
    """Emit the letters of the request one by one, under a run of the request's own, and give others time."""
    text = done(request).text
    for letter in text:
        emit(chunk(letter, run=f"run of {request.id}"))
        await asyncio.sleep(0.001)
    return done(request)


@pytest.fixture
def no_hurry(monkeypatch):
    """Give what was emitted at once all the time that a busy machine needs for it."""
    monkeypatch.setattr(emit, "CLOSE_SECONDS", 60)


async def declared(stage):
    """Declare the topology of a stage on which no worker runs."""
    await declare(stage.url, topology(stage.names), patience=5)


async def answered(stage, mailbox):
    """Take chunks from a mailbox until the answer comes, and return both."""
    chunks = []
    while (letter := await stage.take(mailbox)).message.type == CHUNK:
        chunks.append(letter)
    assert letter.message.type == RESULT
    return chunks, letter


def texts(letters):
    return [letter.json["choices"][0]["delta"]["content"] for letter in letters]


def sequences(letters):
    return [letter.json["sequence"] for letter in letters]


# ---- in the reply queue


async def test_chunks_precede_the_result(stage):
    """In their order, addressed as the answer is, each with an id of its own."""
    await stage.worker(handle=saying(chunk("a"), chunk("b"), chunk("c"), chunk("d", run="other", item=1)))
    mailbox = await stage.mailbox()
    await stage.send(
        HI, reply_to=mailbox, message_id="m", correlation_id="c", headers={"x-backtalk-attempt": 2}
    )
    chunks, answer = await answered(stage, mailbox)
    assert texts(chunks) == ["a", "b", "c", "d"]
    assert [(one.json["run"], one.json["item"], one.json["sequence"]) for one in chunks] == [
        ("run", 0, 0),
        ("run", 0, 1),
        ("run", 0, 2),
        ("other", 1, 0),
    ]
    assert len({one.id for one in [*chunks, answer]}) == 5
    for one in [*chunks, answer]:
        assert (one.message.correlation_id, one.headers["x-backtalk-attempt"]) == ("c", 2)
        assert (one.message.content_type, one.message.content_encoding) == ("application/json", None)
        assert one.message.timestamp is not None
    assert (chunks[0].json["id"], chunks[0].json["model"]) == ("chatcmpl-1", "m")
    assert await stage.rest(stage.names.kept_results) == []


async def test_the_correlation_id_of_chunks_falls_back_to_the_id(stage):
    """As that of the answer does."""
    await stage.worker(handle=saying(chunk("a")))
    mailbox = await stage.mailbox()
    await stage.send(HI, reply_to=mailbox, message_id="m")
    (one,), _ = await answered(stage, mailbox)
    assert one.message.correlation_id == "m"


async def test_chunks_precede_the_answer_to_a_job_that_fails(stage):
    """What was said before is no reason to say it after."""

    async def fail(emit):
        raise ZeroDivisionError

    await stage.worker(handle=saying(*map(chunk, "abc"), then=fail))
    mailbox = await stage.mailbox()
    await stage.send(HI, reply_to=mailbox)
    chunks, answer = await answered(stage, mailbox)
    assert (texts(chunks), answer.error["code"]) == (["a", "b", "c"], "internal")


async def test_a_thousand_chunks_arrive_in_order(stage, no_hurry):
    """Nothing is lost, repeated or overtaken, and none is joined that says more than text."""
    told = [str(at) for at in range(1000)]
    await stage.worker(handle=saying(*map(chunk, told)))
    mailbox = await stage.mailbox()
    await stage.send(HI, reply_to=mailbox)
    chunks, _ = await answered(stage, mailbox)
    assert (texts(chunks), sequences(chunks)) == (told, list(range(1000)))


async def test_thousands_of_tokens_become_few_chunks(stage):
    """What is written faster than the broker confirms is joined."""
    told = [f"{at} " for at in range(5000)]
    await stage.worker(handle=saying(*(chunk(text, finish_reason=None) for text in told)))
    mailbox = await stage.mailbox()
    await stage.send(HI, reply_to=mailbox)
    chunks, _ = await answered(stage, mailbox)
    assert "".join(texts(chunks)) == "".join(told)
    assert sequences(chunks) == list(range(len(chunks)))
    assert len(chunks) < 20


async def test_jobs_at_once_do_not_mix(stage):
    """Each reply queue has the chunks of its own job, then its result."""
    await stage.worker(handle=echo)
    mailboxes = [await stage.mailbox() for _ in range(8)]
    for at, mailbox in enumerate(mailboxes):
        body = {"model": "m", "messages": [{"role": "user", "content": f"number {at}"}]}
        await stage.send(body, reply_to=mailbox)
    for at, (chunks, _) in enumerate([await answered(stage, mailbox) for mailbox in mailboxes]):
        assert "".join(texts(chunks)) == f"number {at}"


async def test_large_chunks_are_gzipped_for_those_who_read_it(stage):
    """As answers are."""
    text = "blue sky " * 20_000
    await stage.worker(handle=saying(chunk(text)))
    mailbox = await stage.mailbox()
    for headers, encoding in (({}, None), ({"x-backtalk-accept-encoding": "gzip"}, "gzip")):
        await stage.send(HI, reply_to=mailbox, headers=headers)
        (one,), _ = await answered(stage, mailbox)
        assert (one.message.content_encoding, texts([one])) == (encoding, [text])


async def test_work_that_is_joined_sends_its_chunks_to_the_first(stage):
    """Each sender has the result."""
    go = asyncio.Event()

    async def wait(emit):
        await go.wait()
        emit(chunk("b"))

    await stage.worker(handle=saying(chunk("a"), then=wait))
    first, second = await stage.mailbox(), await stage.mailbox()
    await stage.send(HI, reply_to=first, message_id="same")
    await stage.until(lambda: stage.depth(first))
    await stage.send(HI, reply_to=second, message_id="same")
    # nothing tells that the second has joined; if it had not, it would have chunks of its own
    await asyncio.sleep(0.2)
    go.set()
    assert texts((await answered(stage, first))[0]) == ["a", "b"]
    assert (await answered(stage, second))[0] == []


# ---- where they cannot go


async def test_without_an_address_nothing_is_emitted(stage, caplog):
    """The results exchange and what is kept behind it see results only, and that is no reason to warn."""
    mailbox = await stage.mailbox()
    await stage.worker(handle=saying(*map(chunk, "abc")))
    await stage.bind(mailbox, stage.names.results, "#")
    with capture_logs() as logs:
        await stage.send(HI, message_id="m")
        chunks, answer = await answered(stage, mailbox)
    assert (chunks, answer.json["id"]) == ([], "m")
    assert ({line["log_level"] for line in logs} <= {"info"}, caplog.text) == (True, "")
    assert await stage.rest(stage.names.kept_results) == []


async def test_a_reply_queue_that_goes_away_takes_no_chunk_elsewhere(stage):
    """One warning that holds no body; the result goes where results go without an address."""
    gone = asyncio.Event()

    async def wait(emit):
        await gone.wait()
        for text in ("secret", "secret"):
            emit(chunk(text))
            await asyncio.sleep(0.1)

    await stage.worker(handle=saying(chunk("a"), then=wait))
    await (await stage.channel()).declare_queue("leaving", durable=True)
    with capture_logs() as logs:
        await stage.send(HI, reply_to="leaving", message_id="m")
        assert texts([await stage.take("leaving")]) == ["a"]
        await stage.delete("leaving")
        gone.set()
        kept = await stage.take(stage.names.kept_results)
    assert (kept.json["id"], kept.json["status"], kept.message.type) == ("m", "completed", RESULT)
    assert kept.headers["x-reply-to"] == "leaving"
    warned = [line for line in logs if line["event"] == "address does not take partial output"]
    assert [(line["log_level"], line["reason"], line["reply_to"]) for line in warned] == [
        ("warning", "Unroutable", "leaving")
    ]
    assert "secret" not in str(logs)
    assert await stage.rest(stage.names.kept_results) == []


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_a_full_queue_takes_the_answer_later(stage, kind):
    """Chunks are given up at the first refusal, an answer is not: it comes once there is room."""
    full = {"x-queue-type": kind, "x-max-length": 2, "x-overflow": "reject-publish"}
    mailbox = await stage.mailbox(**full)
    await stage.worker(handle=saying(*map(chunk, "abcdefghijklmnopqrstuvwxyz")))
    with capture_logs() as logs:
        await stage.send(HI, reply_to=mailbox, message_id="m")
        await stage.until(lambda: any(line.get("reason") == "QueueFull" for line in logs))
        chunks, answer = await answered(stage, mailbox)
    assert "".join(texts(chunks)) == "abcdefghijklmnopqrstuvwxyz"[: len(chunks)]
    assert 2 <= len(chunks) < 26
    assert answer.json["status"] == "completed"


@pytest.mark.parametrize("text", ["\ud83d", "x" * 9 * 2**20], ids=["half a character", "too large"])
async def test_a_chunk_that_cannot_be_sent_harms_nothing(stage, text):
    """The rest of the output is left out, and the result is there."""
    await stage.worker(handle=saying(chunk("a"), chunk(text), chunk("b")))
    mailbox = await stage.mailbox()
    await stage.send(HI, reply_to=mailbox)
    assert texts((await answered(stage, mailbox))[0]) == ["a"]


async def test_a_direct_reply_to_takes_chunks(stage):
    """The broker's own short-cut for callers has no queue; what is sent is not returned."""
    await stage.worker(handle=saying(*map(chunk, "abc")))
    connection = await aio_pika.connect(stage.url)
    async with connection:
        channel = await connection.channel()
        arrived = asyncio.Queue()
        direct = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await direct.consume(arrived.put, no_ack=True)
        message = aio_pika.Message(json.dumps(HI).encode(), reply_to=direct.name, correlation_id="c")
        await channel.default_exchange.publish(message, routing_key=stage.names.work("forward"))
        letters = [await asyncio.wait_for(arrived.get(), 10) for _ in range(4)]
    assert [letter.type for letter in letters] == [CHUNK] * 3 + [RESULT]
    assert {letter.correlation_id for letter in letters} == {"c"}
    assert [json.loads(letter.body)["sequence"] for letter in letters[:3]] == [0, 1, 2]


async def test_a_lost_connection_costs_no_chunk(own_stage, own_broker):
    """What was not confirmed is published again, and numbered as it was."""
    lost = asyncio.Event()

    async def wait(emit):
        await lost.wait()
        for text in "bcd":
            emit(chunk(text))

    await own_stage.worker(handle=saying(chunk("a"), then=wait))
    mailbox = await own_stage.mailbox()
    await own_stage.send(HI, reply_to=mailbox)
    await own_stage.until(partial(own_stage.depth, mailbox))
    await own_broker.control("close_all_connections", "test")
    lost.set()
    chunks, _ = await answered(own_stage, mailbox)
    said = {one.json["sequence"]: text for one, text in zip(chunks, texts(chunks), strict=True)}
    assert said == dict(enumerate("abcd"))


# ---- at the client


async def parts_of(client, text="Hi", **options):
    """Return what a stream yields, the chunks as their texts."""
    async with asyncio.timeout(20):
        parts = client.stream(model="m", messages=[{"role": "user", "content": text}], **options)
        return [part.text if isinstance(part, CompletionChunk) else part async for part in parts]


async def played(stage, *, chunks=(), result=True):
    """Be the worker: take a job from the queue, answer it, and return it."""
    asked = await stage.take(stage.names.work("forward"))
    address = {"key": asked.message.reply_to, "correlation_id": asked.message.correlation_id}
    for at, one in enumerate(chunks):
        body = one if isinstance(one, bytes) else one.model_dump_json().encode()
        await stage.send(body, type=CHUNK, message_id=f"{asked.id} {at}", **address)
    if result:
        body = CompletionResult(id=asked.id, status="completed").model_dump_json().encode()
        await stage.send(body, type=RESULT, message_id=f"{asked.id} result", **address)
    return asked


def numbered(text, sequence, **fields):
    return chunk(text, **fields).model_copy(update={"sequence": sequence})


async def test_a_stream_yields_the_chunks_and_last_the_result(stage):
    """Then it ends; the job says `stream`, whatever else was said of it."""
    asked = []

    async def handle(request, *, model, emit):
        asked.append(request)
        return await echo(request, model=model, emit=emit)

    await stage.worker(handle=handle)
    client = await stage.client()
    *said, result = await parts_of(client, "Ciao", id="mine", stream=False, temperature=0)
    assert (said, result.text, result.id) == (list("Ciao"), "Ciao", "mine")
    (request,) = asked
    assert (request.body.stream, request.body.model_extra) == (True, {"temperature": 0})


async def test_a_stream_without_chunks_yields_the_result(stage):
    """A failed one too."""
    await stage.worker(handle=saying())
    client = await stage.client()
    (result,) = await parts_of(client)
    assert result.status == "completed"
    (result,) = await parts_of(client, inputs={"a": ["b"]}, backtalk={"deadline": "2001-01-01T00:00:00Z"})
    assert (result.status, result.error.code) == ("failed", "deadline_exceeded")


async def test_a_stream_of_a_malformed_job_is_refused(stage):
    """Before anything is sent."""
    await declared(stage)
    client = await stage.client()
    with pytest.raises(Refused, match="messages/0/role"):
        await anext(client.stream(model="m", messages=[{"role": "robot", "content": "Hi"}]))
    assert await stage.depth(stage.names.work("forward")) == 0


async def test_a_stream_that_cannot_be_sent_says_so(stage):
    """Where no worker ever declared the queues."""
    client = await stage.client()
    with pytest.raises(Unroutable):
        await anext(client.stream(**HI))


async def test_a_new_run_is_yielded_and_the_old_one_is_not_any_more(stage):
    """The chunk says whose it is; what a replaced run still says, and what comes twice, is dropped."""
    await declared(stage)
    client = await stage.client()
    told = [
        numbered("a0", 0, run="a"),
        numbered("a1", 1, run="a"),
        numbered("a1", 1, run="a"),
        numbered("z0", 0, run="z", item=1),
        numbered("b0", 0, run="b"),
        numbered("a2", 2, run="a"),
        numbered("b1", 1, run="b"),
        numbered("a3", 3, run="a"),
        numbered("b1", 1, run="b"),
        numbered("z1", 1, run="z", item=1),
        numbered("b2", 2, run="b"),
    ]
    stream = asyncio.ensure_future(parts_of(client))
    await played(stage, chunks=told)
    *said, result = await stream
    assert said == ["a0", "a1", "z0", "b0", "b1", "z1", "b2"]
    assert result.status == "completed"


async def test_a_handler_that_starts_again_is_heard_from_the_start(stage):
    """Two runs of one handler, each numbered from 0."""
    runs = [chunk("wrong", run="a"), chunk("ri", run="b"), chunk("ght", run="b")]
    await stage.worker(handle=saying(*runs))
    client = await stage.client()
    parts = [part async for part in client.stream(**HI)]
    assert [(part.run, part.sequence, part.text) for part in parts[:-1]] == [
        ("a", 0, "wrong"),
        ("b", 0, "ri"),
        ("b", 1, "ght"),
    ]


async def test_what_is_no_chunk_is_dropped_from_a_stream(stage, caplog):
    """The result is there nevertheless."""
    await declared(stage)
    client = await stage.client()
    stream = asyncio.ensure_future(parts_of(client))
    await played(stage, chunks=[chunk("a"), b"junk", b'{"run": 1}', numbered("b", 1)])
    *said, _ = await stream
    assert said == ["a", "b"]
    assert caplog.text.count("which is no chunk") == 2


async def test_what_is_no_result_fails_a_stream(stage):
    """It is no reason to wait for ever."""
    await declared(stage)
    client = await stage.client()
    stream = asyncio.ensure_future(parts_of(client))
    asked = await played(stage, chunks=[chunk("a")], result=False)
    await stage.send(b"junk", key=asked.message.reply_to, correlation_id=asked.message.correlation_id)
    with pytest.raises(Refused, match="JSON"):
        await asyncio.wait_for(stream, 10)


async def test_chunks_may_come_gzipped(stage):
    """The client says that it reads it."""
    await declared(stage)
    client = await stage.client()
    stream = asyncio.ensure_future(parts_of(client))
    asked = await played(stage, result=False)
    assert asked.headers["x-backtalk-accept-encoding"] == "gzip"
    address = {"key": asked.message.reply_to, "correlation_id": asked.message.correlation_id}
    for type, body in ((CHUNK, chunk("a")), (RESULT, CompletionResult(id="x", status="completed"))):
        packed = gzip.compress(body.model_dump_json().encode())
        await stage.send(packed, type=type, content_encoding="gzip", **address)
    assert (await stream)[0] == "a"


async def test_a_stream_left_early_is_let_go_of(stage):
    """What still comes for it is acknowledged and ignored; the client goes on."""
    left = asyncio.Event()

    async def wait(emit):
        await left.wait()
        for _ in range(600):
            emit(chunk("b"))

    await stage.worker(handle=saying(chunk("a"), then=wait))
    client = await stage.client()
    async with aclosing(client.stream(**HI)) as parts:
        async for part in parts:
            assert part.text == "a"
            break
    assert client._calls._calls == {}
    left.set()
    # more than the client may hold unacknowledged
    assert (await asyncio.wait_for(client.complete(**HI), 10)).status == "completed"
    await stage.until(lambda: settled(stage, client))


async def settled(stage, client):
    """Tell whether all that came for a client is taken and acknowledged."""
    return await stage.depth(client._reply_to) == 0 and not client._calls._acks


@pytest.mark.parametrize("chunks", [0, 1])
async def test_closing_a_client_ends_its_streams(stage, chunks):
    """As it ends its calls: nobody waits for what cannot come any more."""
    await declared(stage)
    async with stage.new_client() as client:
        stream = asyncio.ensure_future(parts_of(client))
        asked = await played(stage, chunks=[chunk("a")] * chunks, result=False)
        await stage.until(lambda: settled(stage, client))
        assert asked.message.reply_to == client._reply_to
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(stream, 10)
    assert client._calls._calls == {}


async def test_streams_at_once_do_not_mix(stage):
    """Each has its own chunks, and calls beside them their results."""
    await stage.worker(handle=echo)
    client = await stage.client()
    names = [f"stream number {at}" for at in range(20)]
    streams = asyncio.gather(*(parts_of(client, name) for name in names))
    calls = asyncio.gather(*(client.complete(**HI) for _ in range(20)))
    for name, (*said, result) in zip(names, await streams, strict=True):
        assert ("".join(said), result.text) == (name, name)
    assert {result.text for result in await calls} == {"Hi"}


async def test_two_streams_with_one_id_each_have_a_result(stage):
    """The chunks of work that both wait for go to the one that came first."""
    await stage.worker(handle=echo)
    client = await stage.client()
    streams = await asyncio.gather(*(parts_of(client, "Ciao", id="mine") for _ in range(2)))
    assert {result.text for *_, result in streams} == {"Ciao"}
    assert list("Ciao") in [said for *said, _ in streams]


async def test_a_plain_call_passes_over_chunks(stage):
    """Also when it asked for them."""
    await stage.worker(handle=echo)
    client = await stage.client()
    result = await client.complete(**HI, stream=True)
    assert (result.status, result.text) == ("completed", "Hi")


async def test_a_stream_of_results_passes_over_chunks(stage, caplog):
    """Fire and collect: results come alone, and without a warning."""
    await stage.worker(handle=echo)
    client = await stage.client()
    job = CompletionJob.model_validate({**HI, "stream": True})
    ids = [await client.enqueue(job, results="s") for _ in range(3)]
    async with aclosing(client.results("s")) as answers, asyncio.timeout(20):
        assert {(await anext(answers)).id for _ in ids} == set(ids)
    await stage.until(lambda: drained(stage, "s"))
    assert caplog.text == ""
    await client.forget("s")


async def drained(stage, name):
    """Tell whether only the last answer of a stream, which was not settled, is left in it."""
    return await stage.depth(stage.names.replies(name)) == 1


async def test_a_thousand_chunks_reach_a_slow_reader(stage, no_hurry):
    """A reader in no hurry holds up neither the worker nor other calls on its client."""
    await stage.worker(handle=saying(*(chunk(str(at)) for at in range(1000))))
    client = await stage.client()
    async with aclosing(client.stream(**HI)) as parts:
        assert (await asyncio.wait_for(anext(parts), 10)).text == "0"
        other = await asyncio.wait_for(client.complete(**HI), 60)
        assert other.status == "completed"
        said = [part async for part in parts]
    assert [part.text for part in said[:-1]] == [str(at) for at in range(1, 1000)]
