"""What the README shows is what happens."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


PRINTED = (
    ["Ciao", "Bonjour", "capital letters"],
    ["Ciao", "capital letters"],
    ["job-1", "completed"],
)


async def test_each_snippet_runs_as_it_stands(environment, names, spawn) -> None:
    """All ways to send a job work against a running pair."""
    await asyncio.gather(spawn("forward"), spawn("backward"))
    for snippet, expected in zip(SNIPPETS, PRINTED, strict=True):
        await _runs(
            snippet.replace('"backtalk.forward"', f'"{names.work("forward")}"'), environment, expected
        )


async def _runs(code, environment, expected) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, output.decode()
    assert all(word in output.decode() for word in expected)


def test_the_first_screen_has_both_commands() -> None:
    """A reader finds the demonstration and the tests without scrolling."""
    first = (ROOT / "README.md").read_text("utf-8").splitlines()[:25]
    assert any(line.startswith("make demo") for line in first)
    assert any(line.startswith("make test") for line in first)
