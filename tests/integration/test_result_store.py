"""No call is paid twice: work that comes again, by whatever way, finds what was paid for it. With a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio
from fixtures import tapes
from fixtures.tapes import call, param, tape
from redis.asyncio import Redis

from backtalk.local.broker import free_ports
from backtalk.local.redis_server import PrivateRedis
from backtalk.runtime.model import Completion
from backtalk.runtime.redis_store import CLAIM_SECONDS, RedisStore
from backtalk.wire.identity import work_key
from forward_worker.complete import complete
from forward_worker.tools.inject import toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEAD_AFTER = 0.6
FINE = Completion({"choices": [{"message": {"content": "fine"}}], "usage": {"total_tokens": 3}})


def batch(*items):
    return {"model": "m", "messages": [{"role": "user", "content": "{x}"}], "inputs": {"x": list(items)}}


def said(answer):
    return [
        item["error"]["code"] if "error" in item else item["choices"][0]["message"]["content"]
        for item in answer["completions"]
    ]


def store_of(stage, url, *, role="forward", seconds=60, claim_seconds=CLAIM_SECONDS):
    prefix = f"{stage.names.namespace}:{role}"
    return RedisStore(url, prefix=prefix, seconds=seconds, claim_seconds=claim_seconds)


@asynccontextmanager
async def taken(stage, url, body, id):
    """Be another worker that is at a message."""
    async with store_of(stage, url) as store:
        record = await store.open(work_key(id, json.dumps(body).encode()), "id")
        try:
            yield record
        finally:
            await record.close()


@pytest_asyncio.fixture(loop_scope="module")
async def own_redis():
    """Return a Redis that tests may stop."""
    async with PrivateRedis() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def black_hole():
    """Return the address of a server that takes everything and says nothing."""
    silent = asyncio.Event()

    async def listen(_reader, writer):
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    silent.set()
    server.close()


# ---- what comes again


@pytest.mark.parametrize("role", ["forward", "backward"])
async def test_a_message_that_was_answered_is_answered_again_for_nothing(stage, redis, job, role):
    """By the same worker or by another one; the answer is the same, its id as well."""
    body = job("Hello", backtalk={"record": "always"}) if role == "forward" else feedback(["Be kind."])
    first = await stage.worker(role, result_store=redis)
    one = await stage.ask(body, role=role, message_id="m")
    two = await stage.ask(body, role=role, message_id="m")
    await first.drain()
    await stage.worker(role, result_store=redis)
    three = await stage.ask(body, role=role, message_id="m")
    assert (one.json["status"], stage.model.total) == ("completed", 1)
    assert one.content == two.content == three.content
    assert one.id == two.id == three.id


async def test_another_id_or_another_body_is_other_work(stage, redis, job):
    """Only the same message is the same work."""
    await stage.worker(result_store=redis)
    for body, id in ((job("one"), "a"), (job("one"), "b"), (job("two"), "b")):
        await stage.ask(body, message_id=id)
    assert stage.model.total == 3


async def test_two_workers_with_the_same_message_make_its_calls_once(stage, redis, job):
    """The second waits for the first; both senders are answered alike."""
    stage.model.rule(delay=1.0)
    stores = [store_of(stage, redis, claim_seconds=DEAD_AFTER) for _ in range(2)]
    for store in stores:
        # each has room for one message, so that the second goes to the other
        await stage.worker(store=store, concurrency=1)
    mailbox = await stage.mailbox()
    for _ in stores:
        await stage.send(job(), message_id="m", reply_to=mailbox)
    one, two = await stage.take(mailbox), await stage.take(mailbox)
    assert one.content == two.content
    assert one.json["status"] == "completed"
    assert stage.model.total == 1
    assert sum(store.counts.waits for store in stores) == 1


async def test_a_partial_answer_sent_again_makes_only_the_calls_that_failed(stage, redis):
    """What failed is no result; what was done is."""
    await stage.worker(result_store=redis)
    stage.model.rule(match="bad", status=400, times=1)
    body = batch("good", "bad", "fine")
    one = (await stage.ask(body, message_id="m")).json
    two = (await stage.ask(body, message_id="m")).json
    assert said(one) == ["You said: good", "upstream_rejected", "You said: fine"]
    assert said(two) == ["You said: good", "You said: bad", "You said: fine"]
    assert (one["status"], two["status"], stage.model.total) == ("partial", "completed", 4)
    assert two["usage"]["total_tokens"] > one["usage"]["total_tokens"]


async def test_equal_items_are_asked_one_by_one_and_recalled_so_from_a_dead_letter(stage, redis):
    """A dead letter that people send again costs nothing, and each item gets the reply that was its own."""
    for reply in ("first", "second", "third"):
        stage.model.rule(reply=reply, times=1)
    finished = []

    async def breaks(request, /, *, model, emit):
        finished.append(await complete(request, model=model, emit=emit, toolbox=toolbox(None, {})))
        raise RecursionError("too deep")

    worker = await stage.worker(handle=breaks, result_store=redis, model_concurrency=1)
    failed = await stage.ask(batch("same", "same", "same"), message_id="m")
    assert (failed.error["code"], stage.model.total) == ("internal", 3)
    await worker.drain()
    await stage.worker(result_store=redis)
    dead = await stage.take(stage.names.dead("forward"))
    answer = (await stage.ask(dead.content, message_id=dead.id)).json
    assert said(answer) == ["first", "second", "third"]
    assert answer == finished[0].model_dump(mode="json")
    assert stage.model.total == 3


async def test_paid_work_is_handed_back_at_the_end_of_the_drain(stage, redis):
    """The next worker makes only the calls that were not finished."""
    stage.model.rule(match="slow", stall=True, times=1)
    worker = await stage.worker(result_store=redis, drain_seconds=0.2)
    mailbox = await stage.mailbox()
    await stage.send(batch("quick", "slow"), message_id="m", reply_to=mailbox)
    await stage.calls(2)
    await worker.drain()
    assert await stage.depth(mailbox) == 0
    next_one = store_of(stage, redis)
    await stage.worker(store=next_one)
    answer = await stage.take(mailbox)
    assert said(answer.json) == ["You said: quick", "You said: slow"]
    assert answer.headers["x-backtalk-attempt"] == 0
    assert (stage.model.total, next_one.counts.calls_recalled) == (3, 1)


async def test_paid_work_is_put_off_when_the_endpoint_is_down(stage, redis):
    """It comes back from the rung, and the rest is asked then."""
    stage.model.rule(match="down", status=429, retry_after=60, times=1)
    await stage.worker(result_store=redis)
    mailbox = await stage.mailbox()
    await stage.send(batch("up", "down"), message_id="m", reply_to=mailbox)
    waiting = await stage.take(stage.names.rung("forward", "2m"))
    assert await stage.depth(mailbox) == 0
    await stage.send(waiting.content, message_id="m", reply_to=mailbox, headers=waiting.headers)
    answer = await stage.take(mailbox)
    assert said(answer.json) == ["You said: up", "You said: down"]
    assert (answer.headers["x-backtalk-attempt"], stage.model.total) == (1, 3)


async def test_a_stream_that_comes_again_is_answered_whole(stage, redis, job):
    """What was streamed once is not asked for again."""
    await stage.worker(result_store=redis)
    mailbox = await stage.mailbox()
    for _ in range(2):
        await stage.send(job("Hello", stream=True), message_id="m", reply_to=mailbox)
    letters = [await stage.take(mailbox)]
    while sum(letter.message.type == "completion.result.v1" for letter in letters) < 2:
        letters.append(await stage.take(mailbox))
    results = [letter.json for letter in letters if letter.message.type == "completion.result.v1"]
    assert results[0] == results[1]
    assert (said(results[0]), stage.model.total) == (["You said: Hello"], 1)


# ---- claims


async def test_the_claim_of_a_dead_worker_runs_out(stage, redis, job):
    """Its message is delivered to another, which then goes on with what was paid."""
    async with store_of(stage, redis, claim_seconds=DEAD_AFTER) as dead:
        record = await dead.open(work_key("m", json.dumps(job()).encode()), "id")
        dead._keeper.cancel()
        began = time.monotonic()
        store = store_of(stage, redis)
        await stage.worker(store=store)
        answer = await stage.ask(job(), message_id="m")
        assert answer.json["status"] == "completed"
        assert store.counts.waits == 1
        assert time.monotonic() - began < DEAD_AFTER + 2
        # what comes late from the dead takes no claim away from the living
        await record.close()


async def test_a_claim_is_renewed_as_long_as_the_work_lasts(stage, redis):
    """And given up at its end, so that nobody waits for it to run out."""
    async with (
        store_of(stage, redis, claim_seconds=DEAD_AFTER) as one,
        store_of(stage, redis, claim_seconds=DEAD_AFTER) as two,
    ):
        record = await one.open("k", "id")
        waiting = asyncio.create_task(two.open("k", "id"))
        await asyncio.sleep(3 * DEAD_AFTER)
        assert not waiting.done()
        await record.close()
        async with asyncio.timeout(DEAD_AFTER):
            await (await waiting).close()


async def test_a_claim_that_was_lost_is_not_released(stage, redis):
    """It is another worker's by now."""
    async with store_of(stage, redis, claim_seconds=0.2) as late, store_of(stage, redis) as living:
        late._keeper.cancel()
        lost = await late.open("k", "id")
        record = await living.open("k", "id")
        await lost.close()
        async with store_of(stage, redis) as third:
            waiting = asyncio.create_task(third.open("k", "id"))
            await stage.until(lambda: third.counts.waits)
            await record.close()
            await (await waiting).close()


async def test_a_worker_that_waits_hands_back_when_it_is_drained(stage, redis, job):
    """It paid nothing; another worker will find the answer."""
    async with taken(stage, redis, job(), "m"):
        store = store_of(stage, redis)
        worker = await stage.worker(store=store, drain_seconds=0.1)
        await stage.send(job(), message_id="m")
        await stage.until(lambda: store.counts.waits)
        await worker.drain()
        assert (await stage.take(stage.names.work("forward"))).id == "m"
    assert stage.model.total == 0


async def test_a_worker_waits_no_longer_than_its_budget(stage, redis, job):
    """Then the message is tried again later."""
    async with taken(stage, redis, job(), "m"):
        await stage.worker(result_store=redis, job_budget_seconds=0.3)
        await stage.send(job(), message_id="m")
        assert (await stage.take(stage.names.rung("forward", "5s"))).id == "m"
    assert stage.model.total == 0


async def test_a_worker_waits_no_longer_than_the_deadline(stage, redis, job):
    """Its sender hears that there was not enough time."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    body = job(backtalk={"deadline": at})
    async with taken(stage, redis, body, "m"):
        await stage.worker(result_store=redis)
        answer = await stage.ask(body, message_id="m")
    assert (answer.error["code"], stage.model.total) == ("deadline_exceeded", 0)


# ---- a store that is in trouble


async def test_a_store_that_stops_in_the_middle_costs_no_job(stage, own_redis):
    """The job goes on without, and the store is used again when it is back."""
    store = store_of(stage, own_redis.url)
    stage.model.rule(delay=0.2)
    await stage.worker(store=store, model_concurrency=1)
    mailbox = await stage.mailbox()
    await stage.send(batch("one", "two", "three", "four"), message_id="m", reply_to=mailbox)
    await stage.calls(2)
    await own_redis.stop()
    answer = (await stage.take(mailbox)).json
    assert (answer["status"], stage.model.total) == ("completed", 4)
    assert store.line.failures
    await own_redis.start()
    await stage.until(lambda: store.line.up)
    for _ in range(2):
        await stage.ask(batch("five"), message_id="n")
    assert stage.model.total == 5


async def test_paid_work_is_answered_when_the_store_forgot_it(stage, own_redis):
    """What is not remembered must not be thrown away."""
    stage.model.rule(match="slow", stall=True)
    worker = await stage.worker(result_store=own_redis.url, drain_seconds=0.1)
    await own_redis.stop()
    mailbox = await stage.mailbox()
    await stage.send(batch("quick", "slow"), reply_to=mailbox)
    await stage.calls(2)
    await worker.drain()
    assert said((await stage.take(mailbox)).json) == ["You said: quick", "cancelled"]


async def test_work_whose_claim_was_lost_is_not_safe(stage, own_redis):
    """A Redis that comes back empty has forgotten what was paid."""
    async with store_of(stage, own_redis.url, claim_seconds=DEAD_AFTER) as store:
        record = await store.open("k", "id")
        await record.remember(record.entry("openai", {}, "here"), FINE)
        assert record.safe
        await own_redis.stop()
        await own_redis.start()
        await stage.until(lambda: not record.safe)


async def test_a_slow_moment_at_the_beginning_loses_nothing(stage, own_redis):
    """What was paid is found at the second look, and the claim is kept."""
    async with store_of(stage, own_redis.url) as first:
        record = await first.open("k", "id")
        entry = record.entry("openai", {}, "here")
        await record.remember(entry, FINE)
        await record.close()
    async with store_of(stage, own_redis.url, claim_seconds=DEAD_AFTER) as second:
        async with Redis.from_url(own_redis.url) as admin:
            await admin.execute_command("CLIENT", "PAUSE", 250, "ALL")
            record = await second.open("k", "id")
            assert record.recall(entry) == FINE
            await asyncio.sleep(2 * DEAD_AFTER)
            assert await admin.exists(record.claim_key)
        assert record.safe
        await record.close()


async def test_a_claim_whose_release_was_lost_is_still_ours(stage, redis):
    """Nobody waits for oneself."""
    async with store_of(stage, redis) as store:
        await store.open("k", "id")
        async with asyncio.timeout(1):
            again = await store.open("k", "id")
        await again.close()


async def test_a_claim_that_ran_out_is_taken_again(stage, redis):
    """The worker was late, not gone: what it remembered is there, and nobody else got in."""
    async with store_of(stage, redis, claim_seconds=DEAD_AFTER) as store, Redis.from_url(redis) as admin:
        record = await store.open("k", "id")
        await record.remember(record.entry("openai", {}, "here"), FINE)
        await admin.delete(record.claim_key)
        async with asyncio.timeout(5):
            while not await admin.exists(record.claim_key):
                await asyncio.sleep(0.01)
        assert record.safe
        await record.close()


async def test_many_megabytes_at_once_are_remembered(stage, redis):
    """The limit is for a Redis that says nothing, not for one that is given much."""
    large = Completion({"choices": [{"message": {"content": "x" * 1_000_000}}]})
    async with store_of(stage, redis) as store:
        record = await store.open("k", "id")
        entries = [record.entry("openai", {}, f"items/{at}") for at in range(48)]
        await asyncio.gather(*(record.remember(entry, large) for entry in entries))
        assert (record.safe, store.line.up, store.counts.calls_remembered) == (True, True, 48)
        await record.close()


@pytest.mark.parametrize("trouble", ["nobody", "silence", "password", "http", "name"])
async def test_a_store_that_is_not_there_costs_no_job(stage, redis, black_hole, job, trouble):
    """Neither at the start nor later, and next to no time."""
    (free,) = free_ports(1)
    urls = {
        "nobody": f"redis://127.0.0.1:{free}/0",
        "silence": black_hole,
        "password": redis.replace("//", "//:wrong@"),
        "http": stage.model.base_url.replace("http:", "redis:").removesuffix("/v1"),
        "name": "redis://no-such-host.invalid:6379/0",
    }
    store = store_of(stage, urls[trouble])
    await stage.worker(store=store)
    began = time.monotonic()
    answer = await stage.ask(job())
    assert time.monotonic() - began < 2
    assert answer.json["status"] == "completed"
    assert store.line.failures


async def test_a_store_that_falls_silent_delays_a_job_once(stage, own_redis):
    """Not every call: it is left alone until it answers again."""
    store = store_of(stage, own_redis.url)
    await stage.worker(store=store, model_concurrency=1)
    await stage.ask(batch("warm"))
    os.kill(own_redis._process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = await stage.ask(batch("on"))
        record = await store.open("k", "id")
        for at in range(40):
            await record.remember(str(at).encode(), FINE)
        took = time.monotonic() - began
    finally:
        os.kill(own_redis._process.pid, signal.SIGCONT)
    assert answer.json["status"] == "completed"
    assert took < 1.5
    assert not record.safe
    await stage.until(lambda: store.line.up)


async def test_a_store_that_is_full_costs_no_job(stage, job):
    """It says so at once, and what it did not take is not taken for kept."""
    async with PrivateRedis("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as full:
        store = store_of(stage, full.url)
        await stage.worker(store=store)
        assert (await stage.ask(job())).json["status"] == "completed"
        assert store.line.failures
        assert store.line.up
        record = await store.open("k", "id")
        await record.remember(b"entry", FINE)
        assert not record.safe


# ---- what is in it


async def test_namespaces_and_roles_do_not_mix(stage, redis):
    """The same key in another namespace, or at the other kind of worker, is other work."""
    other = RedisStore(redis, prefix=f"{stage.names.namespace}-b:forward", seconds=60)
    async with (
        store_of(stage, redis) as forward,
        store_of(stage, redis, role="backward") as backward,
        other,
    ):
        one = await forward.open("k", "id")
        await one.remember(one.entry("openai", {}, "here"), FINE)
        for store in (backward, other):
            async with asyncio.timeout(1):
                record = await store.open("k", "id")
            assert record.recall(record.entry("openai", {}, "here")) is None
            await record.close()
        await one.finish(b"{}")
        for store, answer in ((forward, b"{}"), (backward, None), (other, None)):
            record = await store.open("k", "id")
            assert record.answer == answer
            await record.close()


async def test_a_call_is_recalled_by_its_place_endpoint_and_body(stage, redis):
    """Any other is another call."""
    told = ("openai", {"model": "m", "n": 1}, "items/0")
    async with store_of(stage, redis) as store:
        record = await store.open("k", "id")
        await record.remember(record.entry(*told), FINE)
        await record.close()
        record = await store.open("k", "id")
        assert record.recall(record.entry(*told)) == FINE
        for at, other in ((0, "local"), (1, {"model": "m", "n": 2}), (2, "items/1")):
            changed = [other if at == place else one for place, one in enumerate(told)]
            assert record.recall(record.entry(*changed)) is None
        await record.close()


async def test_everything_in_the_store_runs_out(stage, redis, job):
    """Claims soon, the rest after the time that was set; nothing is there that is not JSON or a token."""
    namespace = stage.names.namespace
    stage.model.rule(match="slow", stall=True)
    await stage.worker(result_store=redis, result_seconds=500)
    await stage.ask(job("secret"), message_id="done")
    await stage.send(batch("quick", "slow"), message_id="going on")
    await stage.calls(3)
    async with Redis.from_url(redis) as client:
        await stage.until(partial(keys, client, namespace, 4))
        found = {}
        for key in await keys(client, namespace):
            assert (
                0 < await client.pttl(key) <= (500 if not key.endswith(b":claim") else CLAIM_SECONDS) * 1000
            )
            found.setdefault(key.rpartition(b":")[2], []).append(key)
        assert {kind: len(names) for kind, names in found.items()} == {b"claim": 1, b"paid": 2, b"answer": 1}
        assert json.loads(await client.get(found[b"answer"][0]))["status"] == "completed"
        for key in found[b"paid"]:
            (completion,) = (await client.hgetall(key)).values()
            assert json.loads(completion)["object"] == "chat.completion"


async def keys(client, namespace, count=0):
    found = [key async for key in client.scan_iter(match=f"{namespace}:*")]
    return found if len(found) >= count else []


# ---- a line that many share


async def test_what_is_asked_at_once_travels_together_and_in_order(redis):
    """Each gets the replies to its own commands; a wrong one fails alone, and a cancelled one disturbs nobody."""
    async with RedisStore(redis, prefix="line", seconds=1) as store:
        ask = store.line.ask
        asked = [asyncio.create_task(ask(("ECHO", str(at)), ("ECHO", f"{at} again"))) for at in range(50)]
        wrong = asyncio.create_task(ask(("NOSUCHCOMMAND",)))
        await asyncio.sleep(0)
        asked[7].cancel()
        replies = await asyncio.gather(*asked, wrong, return_exceptions=True)
    assert isinstance(replies.pop(7), asyncio.CancelledError)
    assert type(replies.pop()).__name__ == "Away"
    assert replies == [[f"{at}".encode(), f"{at} again".encode()] for at in range(50) if at != 7]


async def test_whoever_waits_when_the_store_is_closed_is_told(own_redis):
    """Nobody waits for ever."""
    os.kill(own_redis._process.pid, signal.SIGSTOP)
    store = RedisStore(own_redis.url, prefix="line", seconds=1)
    try:
        async with store:
            store.line.up = True
            asked = asyncio.create_task(store.line.ask(("ECHO", "x")))
            await asyncio.sleep(0.01)
        async with asyncio.timeout(1):
            reply = await asyncio.gather(asked, return_exceptions=True)
    finally:
        os.kill(own_redis._process.pid, signal.SIGCONT)
    assert type(reply[0]).__name__ == "Away"


def feedback(texts):
    """Return feedback, a text for each item, on answers to one shared prompt."""
    questions, answers = [f"{at}?" for at in range(len(texts))], ["No."] * len(texts)
    variables = {"prompt": param("Answer."), "question": questions, "answer": answers}
    return tapes.feedback(tape(variables, call("op", "prompt question", "answer")), {"answer": texts})


async def test_a_backward_pass_that_failed_in_part_asks_again_only_there(stage, redis):
    """A gradient for each sample, one of which the endpoint refused."""
    await stage.worker("backward", result_store=redis, model_concurrency=1)
    stage.model.rule(match="wrong in item 2", status=400, times=1)
    body = feedback([f"wrong in item {at}" for at in range(4)])
    one = (await stage.ask(body, role="backward", message_id="m")).json
    two = (await stage.ask(body, role="backward", message_id="m")).json
    assert (one["status"], two["status"], stage.model.total) == ("partial", "completed", 5)
    assert [entry["sample"] for entry in two["gradients"]["prompt"]] == [0, 1, 2, 3]
    assert two["usage"]["calls"] == 4
