"""The demonstration, as `make demo` runs it: everything from jobs to gradients, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

BACKTALK = str(Path(sys.executable).with_name("backtalk"))
ROOT = Path(__file__).parents[2]
EMAILS = ROOT / "examples" / "support_emails.jsonl"


@pytest.fixture
def fresh() -> dict[str, str]:
    """An environment in which nothing is set up, but a stray key lies around."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BACKTALK_", "OPENAI_", "PYTEST_"))
    }
    return {**kept, "OPENAI_API_KEY": "stray-key-that-must-spend-nothing", "COLUMNS": "120"}


async def start(environment) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(BACKTALK, "demo", "--jobs", str(EMAILS)),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def command(process: psutil.Process) -> str:
    """Return a command line, nothing where the process has ended meanwhile."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


async def test_the_demonstration_runs_from_nothing(fresh) -> None:
    """Responses and gradients are printed, and that the model is simulated."""
    process = await start(fresh)
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    told = output.decode()
    assert process.returncode == 0, told
    assert "SIMULATED" in told
    assert "export OPENAI_BASE_URL" in told
    assert "email-036" in told
    assert "Gradients of the system prompt: 36 in all" in told


async def test_ctrl_c_leaves_no_process_behind(fresh) -> None:
    """Broker, model and workers end with the demonstration, however it ends."""
    process = await start(fresh)
    children: list[psutil.Process] = []
    async with asyncio.timeout(60):
        # both workers are there: the broker and the model were before them
        while sum("_worker" in command(child) for child in children) < 2:
            await asyncio.sleep(0.05)
            children = [child for child in family(process.pid) if child.is_running()]
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130, output.decode()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


async def test_a_simulated_model_never_answers_on_somebody_elses_broker(fresh) -> None:
    """`backtalk local` takes no jobs from a real broker unless the model is real as well."""
    process = await asyncio.create_subprocess_exec(
        *(BACKTALK, "local"),
        env={**fresh, "BACKTALK_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert "set OPENAI_BASE_URL" in " ".join(output.decode().split())


def test_there_are_enough_emails_that_share_one_prompt() -> None:
    """At least 30 requests in OpenAI's batch form, one system prompt as one Variable."""
    lines = [json.loads(text) for text in EMAILS.read_text("utf-8").splitlines()]
    assert len(lines) >= 30
    assert len({line["custom_id"] for line in lines}) == len(lines)
    prompts = {json.dumps(line["body"]["messages"][0]) for line in lines}
    assert len(prompts) == 1
    assert json.loads(prompts.pop())["content"][0]["requires_grad"] is True
