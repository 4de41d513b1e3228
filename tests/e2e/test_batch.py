"""`backtalk batch` as people run it: sent and left alone, killed while it collects, and looked at again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

BACKTALK = str(Path(sys.executable).with_name("backtalk"))
COUNT = 24


@pytest.fixture
def batch(environment, tmp_path):
    """Begin `backtalk batch …`, with a state folder of the test's own."""

    async def begin(*arguments):
        return await asyncio.create_subprocess_exec(
            *(BACKTALK, "batch", *map(str, arguments)),
            env={**environment, "BACKTALK_BATCHES": str(tmp_path / "state")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    return begin


@pytest.fixture
def done(batch):
    """Run `backtalk batch …` to its end; returns the exit code, the output, and what it said."""

    async def run(*arguments):
        process = await batch(*arguments)
        output, said = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, output.decode(), said.decode()

    return run


@pytest.fixture
def requests(tmp_path):
    """A file of requests, of which one is going to fail."""
    path = tmp_path / "in.jsonl"
    bodies = (
        {"model": "gpt-4o", "messages": [{"role": "user", "content": f"text {at} end"}]}
        for at in range(COUNT)
    )
    lines = (
        {"custom_id": f"c{at}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for at, body in enumerate(bodies)
    )
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


async def test_a_batch_outlives_every_process_that_works_on_it(
    batch, done, requests, spawn, model, tmp_path
) -> None:
    """Sent by one command; one that collects is killed in the middle; one interrupted; the last has all of it once."""
    model.rule(match="text 7 end", status=400)
    model.rule(delay=0.1)
    await spawn("forward", BACKTALK_CONCURRENCY="2")
    code, output, said = await done("submit", requests)
    assert code == 0, said
    id = output.strip()
    results = tmp_path / "state" / id / "output.jsonl"
    for number in (signal.SIGKILL, signal.SIGINT):
        before = results.read_text().count("\n") if results.exists() else 0
        watching = await batch("status", id, "--watch")
        async with asyncio.timeout(30):
            while not results.exists() or results.read_text().count("\n") < before + 3:
                await asyncio.sleep(0.02)
        watching.send_signal(number)
        _, said = await watching.communicate()
        assert watching.returncode == (-9 if number == signal.SIGKILL else 130)
        told = f"`backtalk batch status {id} --watch` goes on"
        assert (told in said.decode()) == (number == signal.SIGINT)
    copy = tmp_path / "mine.jsonl"
    code, _, said = await done(
        "results", id[:12], "--wait", "--out", copy, "--errors", tmp_path / "bad.jsonl"
    )
    assert code == 3, said
    assert "1 failed" in said
    good = [json.loads(text) for text in copy.read_text().splitlines()]
    assert [one["custom_id"] for one in good] == [f"c{at}" for at in range(COUNT) if at != 7]
    assert all(one["error"] is None and one["response"]["status_code"] == 200 for one in good)
    (bad,) = map(json.loads, (tmp_path / "bad.jsonl").read_text().splitlines())
    assert (bad["custom_id"], bad["response"], bad["error"]["code"]) == ("c7", None, "upstream_rejected")
    assert model.total == COUNT
    code, output, _ = await done("status", id, "--offline")
    told = json.loads(output)
    assert (code, told["object"], told["status"]) == (0, "batch", "completed")
    assert told["request_counts"] == {"total": COUNT, "completed": COUNT - 1, "failed": 1}
    assert told["usage"]["total_tokens"] > 0
    assert told["output_file"] == str(results)
