"""The client on a real broker: calls, streams of results, typed errors, and lost connections."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from backtalk.client import BacktalkError, BrokerUnreachable, Client, QueueFull, Refused, Unroutable
from backtalk.local.broker import free_ports
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology
from backtalk.wire.feedback import Feedback
from backtalk.wire.jobs import CompletionJob

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = {"id": "prompt", "data": "Be kind.", "role": "system prompt", "requires_grad": True}


def request(text="Hi", **fields):
    return CompletionJob.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    )


def hi(text="Hi"):
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


async def declared(stage):
    """Declare the topology of a stage on which no worker runs."""
    await declare(stage.url, topology(stage.names), patience=5)


async def next_of(answers):
    return await asyncio.wait_for(anext(answers), 10)


# ---- calls


async def test_a_failed_request_is_returned_with_its_error(pair):
    """A call returns whatever the answer is; raising is the caller's choice."""
    client = await pair.client()
    result = await client.complete(**hi(), inputs={"unused": "x"})
    assert (result.status, result.error.code) == ("failed", "invalid_message")
    with pytest.raises(Refused, match="inputs/unused"):
        result.raise_for_status()


async def test_a_request_that_is_wrong_in_itself_is_not_sent(pair):
    """What cannot be a job is refused where it is written, in the words of the worker."""
    client = await pair.client()
    with pytest.raises(Refused, match="messages/0/role"):
        await client.complete(model="m", messages=[{"role": "robot", "content": "Hi"}])
    with pytest.raises(Refused, match='record": "always'):
        await client.feedback(None, {"x": "y"})
    assert pair.model.total == 0


async def test_two_calls_with_one_id_each_have_their_answer(pair):
    """An id of the caller's is the id of the job; answers find their call by themselves."""
    client = await pair.client()
    results = await asyncio.gather(
        *(client.complete(**hi(text), id="mine") for text in ("one", "two", "one"))
    )
    assert [result.text for result in results] == ["You said: one", "You said: two", "You said: one"]
    assert {result.id for result in results} == {"mine"}


async def test_feedback_takes_one_graph_or_many(pair):
    """The fragments of several results go in as they came."""
    client = await pair.client()
    first = await client.complete(
        model="m", messages=[{"role": "system", "content": [PROMPT]}, *hi()["messages"]]
    )
    written = first.graph.index.variables[first.output]
    second = await client.complete(model="m", messages=[{"role": "user", "content": ["Shorten: ", written]}])
    gradients = await client.feedback(
        [first.graph, second.graph], {second.output: "Too long."}, wrt=["prompt"]
    )
    assert (gradients.status, gradients.failures) == ("completed", ())
    assert len(gradients.gradients["prompt"]) == 1
    direct = await client.feedback(first.graph, [{"variable": "prompt", "text": "x", "id": "f"}])
    assert direct.texts("prompt") == ("x",)


# aiohttp would rather have a file
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_large_request_and_its_answer_travel_gzipped(pair):
    """A text of many megabytes is an ordinary input for a client, which packs it."""
    client = await pair.client()
    text = "blue sky " * 1_500_000
    result = await client.complete(**hi(text), backtalk={"record": "always"})
    assert result.raise_for_status().graph.variables[0].data == text


async def test_what_is_too_large_is_refused_before_it_is_sent(pair):
    """The queue never sees it, and calls beside it are not disturbed."""
    client = await pair.client()
    pair.model.rule(delay=0.3)
    beside = asyncio.ensure_future(client.complete(**hi()))
    await pair.calls(1)
    with pytest.raises(Refused) as caught:
        await client.complete(**hi("x" * 65 * 2**20))
    assert caught.value.error.code == "payload_too_large"
    assert (await beside).status == "completed"
    assert pair.model.total == 1


async def test_the_reply_queue_goes_with_its_client(stage):
    """An unnamed queue for answers exists as long as its client, and no longer."""
    await declared(stage)
    async with stage.new_client() as client:
        call = asyncio.ensure_future(client.complete(**hi()))
        letter = await stage.take(stage.names.work("forward"))
        assert letter.message.reply_to.startswith(stage.names.replies(""))
        assert await stage.depth(letter.message.reply_to) == 0
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(ChannelNotFoundEntity):
        await stage.depth(letter.message.reply_to)


async def test_an_answer_that_is_none_fails_its_call(stage):
    """What somebody else puts into the reply queue is no reason to wait for ever."""
    await declared(stage)
    client = await stage.client()
    call = asyncio.ensure_future(client.complete(**hi()))
    asked = await stage.take(stage.names.work("forward"))
    await stage.send(b"junk", key=asked.message.reply_to, correlation_id="of nobody")
    await stage.send(b"junk", key=asked.message.reply_to, correlation_id=asked.message.correlation_id)
    with pytest.raises(BacktalkError, match="JSON"):
        await asyncio.wait_for(call, 10)


async def test_a_call_given_up_leaves_the_others_alone(pair):
    """A late answer that nobody waits for is dropped."""
    client = await pair.client()
    pair.model.rule(match="slow", delay=0.5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.complete(**hi("slow")), 0.1)
    mixed = await asyncio.gather(*(client.complete(**hi(text)) for text in ("slow", "quick")))
    assert [result.status for result in mixed] == ["completed", "completed"]


async def test_a_client_outside_its_block_says_so():
    """Forgetting `async with` is explained."""
    with pytest.raises(RuntimeError, match="async with Client"):
        await Client("amqp://guest:guest@127.0.0.1:1/").complete(**hi())


# ---- streams


async def test_results_of_a_stream_bear_the_ids_of_enqueue(pair):
    """Fire and collect: results and gradients come in the order they are done, under the id that was returned."""
    client = await pair.client()
    ids = [await client.enqueue(request(text), results="s") for text in ("one", "two")]
    feedback = {"graph": {"variables": [PROMPT]}, "feedback": [{"variable": "prompt", "text": "x"}]}
    ids.append(await client.enqueue(Feedback.model_validate(feedback), results="s", id="mine"))
    assert ids[2] == "mine"
    async with aclosing(client.results("s")) as answers:
        results = [await next_of(answers) for _ in ids]
    assert {result.id for result in results} == set(ids)
    gradients = next(result for result in results if result.id == "mine")
    assert gradients.texts("prompt") == ("x",)
    await client.forget("s")


async def test_a_stream_outlives_its_client(pair):
    """A named stream waits for its reader, whoever that is."""
    async with pair.new_client() as sender:
        id = await sender.enqueue(request(), results="s")
    await pair.until(lambda: pair.depth(pair.names.replies("s")))
    async with pair.new_client() as reader:
        async with aclosing(reader.results("s")) as answers:
            assert (await next_of(answers)).id == id
        await reader.forget("s")


async def test_a_result_comes_again_if_the_next_was_not_asked_for(pair):
    """Asking for the next acknowledges the one before; a reader that dies in between sees it again."""
    client = await pair.client()
    ids = []
    for text in ("one", "two"):
        ids.append(await client.enqueue(request(text), results="s"))
        await pair.until(lambda: reached(pair, len(ids)))
    async with aclosing(client.results("s")) as answers:
        assert [(await next_of(answers)).id for _ in ids] == ids
    async with aclosing(client.results("s")) as answers:
        assert (await next_of(answers)).id == ids[1]
        await client.enqueue(request("three"), results="s", id="three")
        assert (await next_of(answers)).id == "three"
    async with aclosing(client.results("s")) as answers:
        assert (await next_of(answers)).id == "three"
    await client.forget("s")


async def reached(stage, count):
    return await stage.depth(stage.names.replies("s")) >= count


async def test_repeats_in_a_stream_are_dropped(pair):
    """A job that was answered twice is one result, and its repeat leaves the queue as well."""
    client = await pair.client()
    await client.enqueue(request(), results="s", id="again")
    await pair.until(lambda: reached(pair, 1))
    await client.enqueue(request(), results="s", id="again")
    await pair.until(lambda: reached(pair, 2))
    await client.enqueue(request(), results="s", id="last")
    async with aclosing(client.results("s")) as answers:
        assert [(await next_of(answers)).id for _ in range(2)] == ["again", "last"]
        await client.enqueue(request(), results="s", id="more")
        assert (await next_of(answers)).id == "more"
    await pair.until(lambda: reached(pair, 1))
    assert await pair.depth(pair.names.replies("s")) == 1
    await client.forget("s")


async def test_what_is_no_answer_is_dropped_from_a_stream(pair, caplog):
    """Junk in the queue does not end the stream, and does not come again."""
    client = await pair.client()
    await client.enqueue(request(), results="s", id="first")
    await pair.send(b"junk", key=pair.names.replies("s"), message_id="junk")
    await client.enqueue(request(), results="s", id="second")
    async with aclosing(client.results("s")) as answers:
        assert {(await next_of(answers)).id for _ in range(2)} == {"first", "second"}
    assert "junk" in caplog.text
    await client.forget("s")


async def test_forgetting_deletes_a_stream_with_what_is_in_it(pair):
    """The name can be used anew afterwards."""
    client = await pair.client()
    await client.enqueue(request(), results="s", id="old")
    await pair.until(lambda: reached(pair, 1))
    await client.forget("s")
    await client.enqueue(request(), results="s", id="new")
    async with aclosing(client.results("s")) as answers:
        assert (await next_of(answers)).id == "new"
    await client.forget("s")


async def test_a_stream_can_be_read_before_anything_is_sent(pair):
    """The reader may come first."""
    reader, sender = await pair.client(), await pair.client()
    async with aclosing(reader.results("s")) as answers:
        waiting = asyncio.ensure_future(next_of(answers))
        await pair.until(lambda: pair.consumers(pair.names.replies("s")))
        id = await sender.enqueue(request(), results="s")
        assert (await waiting).id == id
    await reader.forget("s")


# ---- what can go wrong on the way


async def test_without_any_worker_ever_a_request_is_unroutable(stage):
    """Clients declare no work queues: a wrong namespace is an error, not a wait."""
    client = await stage.client()
    with pytest.raises(Unroutable, match=stage.names.work("forward")):
        await client.complete(**hi())
    with pytest.raises(Unroutable):
        await client.enqueue(request(), results="s")
    await client.forget("s")


async def enqueue_many(client, count):
    for at in range(count):
        await client.enqueue(request(str(at)), results="s")


async def test_a_full_queue_is_a_typed_error(own_stage, own_broker):
    """A limit on the work queue, set by a policy, tells senders to come back later."""
    await declared(own_stage)
    work = own_stage.names.work("forward")
    limits = ("limits", f"^{work}$", '{"max-length": 3}', "--apply-to", "queues")
    await own_broker.control("set_policy", *limits)
    try:
        async with own_stage.new_client() as client:
            with pytest.raises(QueueFull, match=work):
                await enqueue_many(client, 50)
            kept = await own_stage.depth(work)
            assert 3 <= kept < 50
            with pytest.raises(QueueFull):
                await client.complete(**hi())
            await own_stage.worker()
            async with aclosing(client.results("s")) as answers:
                ids = {(await next_of(answers)).id for _ in range(kept)}
            assert len(ids) == kept
            await client.forget("s")
    finally:
        await own_broker.control("clear_policy", "limits")


async def test_a_lost_connection_loses_no_answer_of_an_open_call(own_stage, own_broker):
    """Calls that were open when the connection broke are answered on the next one."""
    await own_stage.worker()
    own_stage.model.rule(delay=1.5)
    async with own_stage.new_client() as client:
        calls = [asyncio.ensure_future(client.complete(**hi(f"number {at}"))) for at in range(30)]
        await own_stage.calls(30)
        await own_broker.control("close_all_connections", "test")
        results = await asyncio.wait_for(asyncio.gather(*calls), 20)
        assert [result.text for result in results] == [f"You said: number {at}" for at in range(30)]
        assert (await asyncio.wait_for(client.complete(**hi("after")), 20)).status == "completed"


async def test_a_broker_that_restarts_loses_no_answer_of_an_open_call(own_stage, own_broker):
    """Also a call that is made while the broker is away is sent once it is back."""
    await own_stage.worker()
    own_stage.model.rule(match="before", delay=1)
    async with own_stage.new_client() as client:
        before = [asyncio.ensure_future(client.complete(**hi(f"before {at}"))) for at in range(10)]
        await own_stage.calls(10)
        await own_broker.control("stop_app")
        during = asyncio.ensure_future(client.complete(**hi("during")))
        await own_broker.control("start_app")
        results = await asyncio.wait_for(asyncio.gather(*before, during), 30)
        assert {result.status for result in results} == {"completed"}
        assert results[-1].text == "You said: during"


async def test_a_stream_goes_on_after_a_lost_connection(own_stage, own_broker):
    """A reader in the middle of its stream sees every result once."""
    await own_stage.worker()
    async with own_stage.new_client() as client, aclosing(client.results("s")) as answers:
        ids = [await client.enqueue(request(str(at)), results="s") for at in range(10)]
        seen = [(await next_of(answers)).id for _ in range(5)]
        await own_broker.control("close_all_connections", "test")
        ids += [await client.enqueue(request(str(at)), results="s") for at in range(5)]
        seen += [(await next_of(answers)).id for _ in range(10)]
        assert sorted(seen) == sorted(ids)
    async with own_stage.new_client() as client:
        await client.forget("s")


async def test_a_broker_that_does_not_listen_is_unreachable():
    """The client gives up after its patience and says what it met."""
    (port,) = free_ports(1)
    with pytest.raises(BrokerUnreachable, match=r"within 0\.3 s"):
        async with Client(f"amqp://guest:guest@127.0.0.1:{port}/", patience=0.3):
            pytest.fail("there is no broker")


async def test_a_wrong_password_is_said_at_once(stage):
    """No patience helps against it."""
    url = stage.url.replace("guest:guest", "guest:wrong")
    with pytest.raises(BrokerUnreachable, match="user, password or vhost"):
        async with Client(url, patience=60):
            pytest.fail("the password is wrong")
