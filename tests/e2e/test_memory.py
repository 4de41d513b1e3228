"""What senders can make a worker take: a stated amount of memory, whatever they send, and it goes on working."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from pathlib import Path

import aio_pika
import pytest

from backtalk import Client
from backtalk.runtime.settings import Settings
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology

MIB = 2**20
PEAKS = Path(__file__).parent.parent / "fixtures" / "peaks.py"
AT_ONCE = 64
MESSAGE_BYTES = MIB // 4
SMILE = "\N{GRINNING FACE}"
SETTINGS = {
    "BACKTALK_CONCURRENCY": str(AT_ONCE),
    "BACKTALK_MAX_BODY_BYTES": str(8 * MIB),
    "BACKTALK_MAX_BYTES_AT_ONCE": str(16 * MIB),
}


def job(*content, **fields) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": list(content)}], **fields}
    return json.dumps(body, ensure_ascii=False).encode()


def nested(levels: int, times: int) -> bytes:
    """Return a job whose extra field is nothing but objects within objects, and is recorded."""
    one = b'{"":' * levels + b"0" + b"}" * levels
    extra = b"[" + b",".join([one] * times) + b"]"
    return job("Hi", backtalk={"record": "always"})[:-1] + b',"x":' + extra + b"}"


def long_call(reads: int, text: str) -> bytes:
    """Return feedback on a call that read the same text many times, and another one that is asked about."""
    variables = [
        {"id": "x", "data": "a", "role": "note"},
        {"id": "z", "data": text, "role": "prompt", "requires_grad": True},
        {"id": "y", "data": "a", "role": "answer", "producer": "o"},
    ]
    operation = {
        "id": "o",
        "op": "chat_completion",
        "endpoint": "openai",
        "model": "m",
        "messages": [{"role": "user", "content": ["z", *["x"] * reads]}],
        "outputs": ["y"],
    }
    return json.dumps(
        {
            "graph": {"variables": variables, "operations": [operation]},
            "feedback": [{"variable": "y", "text": "Be brief."}],
        }
    ).encode()


BOMB = gzip.compress(bytes(12 * MIB), compresslevel=9)
# each takes most of the room
HEAVY = {
    "forward": [
        job("a" * 300_000 + "{x}", inputs={"x": ["y"] * 16}),
        job(SMILE + "a" * 100_000 + "{x}", inputs={"x": ["y"] * 16}),
        nested(100, 200),
        job(*[""] * 6_000, backtalk={"record": "always"}),
        job("{x}" * 64 + "{y}", inputs={"x": "a" * 5_000, "y": ["z"] * 16}),
    ],
    "backward": [long_call(4_000, "a"), long_call(3_000, SMILE + "a" * 100_000)],
}


def peak(pid: int) -> int:
    """Return the most that a process has had in memory so far."""
    told = Path(f"/proc/{pid}/status").read_text().split()
    return int(told[told.index("VmHWM:") + 1]) * 1024


@pytest.mark.parametrize("role", ["forward", "backward"])
async def test_no_sender_makes_a_worker_take_more_memory_than_is_stated(
    role, broker, names, model, spawn, channel, monkeypatch
):
    """As many of the worst messages as it takes at once, half of them bombs: all are answered, and the next job is done."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    bound = Settings().memory_bound(MESSAGE_BYTES)
    model.rule(delay=0.05)
    await declare(broker.url, topology(names), patience=10)
    async with Client(broker.url, namespace=names.namespace) as client:
        box = await channel.declare_queue(exclusive=True)
        bodies = [gzip.compress(body, compresslevel=1) for body in HEAVY[role]]
        assert max(map(len, [*bodies, BOMB])) < MESSAGE_BYTES
        attack = [bodies[at % len(bodies)] for at in range(AT_ONCE // 2)] + [BOMB] * (AT_ONCE // 2)
        for at, body in enumerate(attack):
            message = aio_pika.Message(body, message_id=str(at), reply_to=box.name, content_encoding="gzip")
            await channel.default_exchange.publish(message, routing_key=names.work(role))
        worker = await spawn(role, **SETTINGS)
        answers = await taken(box, len(attack))
        assert peak(worker.pid) < bound
        if role == "forward":
            after = await client.complete(model="m", messages=[{"role": "user", "content": "Hi"}])
            assert after.status == "completed"
    codes = [answer["error"] and answer["error"]["code"] for answer in answers]
    assert codes.count("payload_too_large") == AT_ONCE // 2
    assert codes.count(None) == AT_ONCE // 2


async def taken(box, count) -> list:
    answers = []
    async with asyncio.timeout(30):
        while len(answers) < count:
            message = await box.get(no_ack=True, fail=False)
            if message is None:
                await asyncio.sleep(0.02)
            else:
                packed = message.content_encoding == "gzip"
                answers.append(json.loads(gzip.decompress(message.body) if packed else message.body))
    return answers


# the interpreter takes memory from the system by the mebibyte, and may hold one half empty here and there
ARENAS = 2 * 1024 * 1024


async def test_no_body_takes_more_memory_than_it_weighs():
    """What a worker counts with, before it parses or does anything, is what the worst bodies take in a process, or more."""
    measuring = await asyncio.create_subprocess_exec(
        sys.executable, str(PEAKS), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await measuring.communicate()
    found = json.loads(output)
    assert len(found) > 20
    assert {name: told for name, told in found.items() if told["takes"] > told["weighs"] + ARENAS} == {}
