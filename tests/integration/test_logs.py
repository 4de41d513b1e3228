"""What reaches the log of a real process: outcomes and tracebacks, never a body or a key."""

from __future__ import annotations

import asyncio
import sys

import pytest

PROGRAM = """
from backtalk.runtime.telemetry import configure, log

def handle(body, api_key):
    raise ValueError("no such thing")

configure("info", {form!r})
try:
    handle("the customer's " + "secret", "sk-" + "secret")
except ValueError:
    log.exception("handler failed", job="m")
"""


@pytest.mark.parametrize("form", ["json", "console"])
async def test_a_traceback_in_the_log_holds_no_values(form):
    """The lines that failed are told, the values they worked on are not: those are prompts and keys."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(form=form),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told = (await process.communicate())[0].decode()
    assert "handler failed" in told
    assert "no such thing" in told
    assert "s secret" not in told
    assert "sk-secret" not in told
