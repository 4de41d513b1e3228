"""A file of 100,000 requests takes the memory of one of 1,000: checked, sent, collected and put in order."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import pytest

from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology

BACKTALK = str(Path(sys.executable).with_name("backtalk"))
MIB = 2**20
PEAK = """
import re, sys
from pathlib import Path
from backtalk.cli import main
sys.argv = ["backtalk", *sys.argv[1:]]
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
status = Path("/proc/self/status").read_text()
print("peak", int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024)
"""


@asynccontextmanager
async def echo(url, names):
    """Answer every job at once: what a worker takes is not what is measured."""
    said = {"index": 0, "message": {"role": "assistant", "content": "x" * 200}, "finish_reason": "stop"}
    used = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {"object": "chat.completion", "model": "gpt-4o", "choices": [said], "usage": used}
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=500)

        async def answer(message):
            told = {"id": message.message_id, "status": "completed", "completions": [body], "usage": used}
            reply = aio_pika.Message(
                json.dumps(told).encode(), message_id=message.message_id, type="completion.result.v1"
            )
            await channel.default_exchange.publish(reply, routing_key=message.reply_to)
            await message.ack()

        queue = await channel.get_queue(names.work("forward"))
        await queue.consume(answer)
        yield


async def peak(environment, folder, *arguments):
    """Return what a command printed, and the most memory that it took, in bytes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PEAK, "batch", *map(str, arguments)),
        env={**os.environ, **environment, "BACKTALK_BATCHES": str(folder)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    *printed, last = output.decode().splitlines()
    return printed, int(last.removeprefix("peak "))


def check(output, count):
    with Path(output).open() as file:
        for at, text in enumerate(file):
            assert json.loads(text)["custom_id"] == f"request-{at:06}"
    assert at == count - 1


def write(path, count):
    with path.open("w") as file:
        for at in range(count):
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"{at:06} " + "y" * 200}]}
            file.write(json.dumps({"custom_id": f"request-{at:06}", "body": body}) + "\n")
    return path


@pytest.mark.timeout(1800)
async def test_memory_does_not_grow_with_the_file(broker, names, tmp_path):
    """Neither of the command that sends, nor of the one that collects. Lines of both files are as long."""
    environment = {"BACKTALK_AMQP_URL": broker.url, "BACKTALK_NAMESPACE": names.namespace}
    await declare(broker.url, topology(names), patience=10)
    state, peaks = tmp_path / "state", {}
    async with echo(broker.url, names):
        for count in (1_000, 100_000):
            requests = write(tmp_path / f"{count}.jsonl", count)
            (id,), sent = await peak(environment, state, "submit", requests)
            printed, collected = await peak(environment, state, "status", id, "--watch")
            told = json.loads("\n".join(printed))
            assert told["request_counts"] == {"total": count, "completed": count, "failed": 0}
            check(told["output_file"], count)
            peaks[count] = (sent, collected)
    for few, many in zip(*peaks.values(), strict=True):
        assert many - few < 16 * MIB, peaks
