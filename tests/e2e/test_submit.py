"""`backtalk submit`: OpenAI's batch form in and out, and a second run that sends and pays nothing twice."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from backtalk.cli import main

BACKTALK = str(Path(sys.executable).with_name("backtalk"))


def line(custom_id: str, text: str, **body) -> dict:
    content = {"model": "m", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": content}


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


@pytest.fixture
def submit(environment):
    """Run `backtalk submit` to its end; returns the exit code and what it said."""

    async def run(*arguments) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(BACKTALK, "submit", *map(str, arguments)),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, output.decode()

    return run


async def test_results_come_in_the_order_of_the_requests(submit, spawn, model, tmp_path) -> None:
    """Each line is OpenAI's batch form; what Backtalk adds stands beside it, and the journal is gone."""
    model.rule(match="text 0", delay=0.5)
    model.rule(match="text 3", status=400)
    await spawn("forward")
    requests = write(tmp_path / "in.jsonl", [line(f"c{at}", f"text {at}") for at in range(6)])
    out = tmp_path / "out.jsonl"
    code, said = await submit(requests, "--out", out, "--in-flight", 3)
    assert code == 0, said
    results = read(out)
    assert [result["custom_id"] for result in results] == [f"c{at}" for at in range(6)]
    good = results[0]["response"]
    assert good["status_code"] == 200
    assert "text 0" in good["body"]["choices"][0]["message"]["content"]
    assert results[3]["response"] is None
    assert results[3]["error"]["code"] == "upstream_rejected"
    assert results[0]["backtalk"]["status"] == "completed"
    assert "1 failed" in " ".join(said.split())
    assert list(tmp_path.glob("out.jsonl.*")) == []


async def test_an_interrupted_run_goes_on_where_it_stopped(
    submit, spawn, model, environment, redis, tmp_path
) -> None:
    """Killed in the middle, with answers written, queued and unsent: every request is paid for once.

    One that was being sent just then is sent again, and the result store knows it.
    """
    model.rule(delay=0.1)
    await spawn("forward", BACKTALK_CONCURRENCY="2", BACKTALK_RESULT_STORE=redis)
    requests = write(tmp_path / "in.jsonl", [line(f"c{at}", f"text {at}") for at in range(40)])
    out = tmp_path / "out.jsonl"
    first = await asyncio.create_subprocess_exec(
        *(BACKTALK, "submit", str(requests), "--out", str(out), "--in-flight", "10"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(30):
        while not (out.exists() and len(out.read_bytes().splitlines()) >= 5):
            await asyncio.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    await first.wait()
    with out.open("ab") as torn:
        torn.write(b'{"id": "cut off in the mid')
    code, said = await submit(requests, "--out", out)
    assert code == 0, said
    assert [result["custom_id"] for result in read(out)] == [f"c{at}" for at in range(40)]
    assert model.total == 40


async def test_a_finished_run_sends_nothing_again(submit, spawn, model, tmp_path) -> None:
    """The same command once more is free."""
    await spawn("forward")
    requests = write(tmp_path / "in.jsonl", [line("a", "one"), line("b", "two")])
    out = tmp_path / "out.jsonl"
    await submit(requests, "--out", out)
    before = out.read_bytes()
    code, said = await submit(requests, "--out", out)
    assert code == 0, said
    assert out.read_bytes() == before
    assert model.total == 2


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["not json"], "in.jsonl:1"),
        ([json.dumps(line("a", "x")), json.dumps(line("a", "y"))], "custom_id 'a' stands twice"),
        ([json.dumps({"body": {}})], "custom_id is missing"),
        ([json.dumps({**line("a", "x"), "url": "/v1/embeddings"})], "/v1/chat/completions"),
        ([json.dumps(line("a", "x", messages=[]))], "messages"),
        ([], "holds no requests"),
    ],
)
def test_a_bad_file_is_refused_before_anything_is_sent(
    environment, model, tmp_path, monkeypatch, capsys, lines, told
) -> None:
    """The message names file, line and remedy."""
    for name in ("BACKTALK_AMQP_URL", "BACKTALK_NAMESPACE"):
        monkeypatch.setenv(name, environment[name])
    requests = tmp_path / "in.jsonl"
    requests.write_text("".join(f"{text}\n" for text in lines))
    monkeypatch.setattr(
        sys, "argv", ["backtalk", "submit", str(requests), "--out", str(tmp_path / "out.jsonl")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert told in " ".join(capsys.readouterr().err.split())
    assert model.total == 0


async def test_results_of_another_file_are_never_overwritten(submit, spawn, tmp_path) -> None:
    """An --out that belongs to other requests is refused."""
    await spawn("forward")
    out = tmp_path / "out.jsonl"
    await submit(write(tmp_path / "one.jsonl", [line("a", "one")]), "--out", out)
    before = out.read_bytes()
    code, said = await submit(write(tmp_path / "two.jsonl", [line("a", "two")]), "--out", out)
    assert code == 1
    assert "choose another --out" in " ".join(said.split())
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["notes.txt", "in.jsonl"])
async def test_a_file_of_somebody_elses_is_never_touched(submit, model, tmp_path, name) -> None:
    """Neither notes nor the requests themselves are taken for results, with or without a last line break."""
    requests = tmp_path / "in.jsonl"
    requests.write_text(json.dumps(line("a", "one")))
    out = tmp_path / name
    if out != requests:
        out.write_text("my only copy, and no line break")
    before = out.read_bytes()
    code, said = await submit(requests, "--out", out)
    assert code == 1
    assert "choose another --out" in " ".join(said.split())
    assert out.read_bytes() == before
    assert model.total == 0


async def test_without_a_worker_the_remedy_is_told(submit, tmp_path) -> None:
    """The commonest first mistake ends in a sentence, not in a traceback."""
    requests = write(tmp_path / "in.jsonl", [line("a", "one")])
    code, said = await submit(requests, "--out", tmp_path / "out.jsonl")
    assert code == 1
    assert "Traceback" not in said
    assert "start a worker" in " ".join(said.split())
