"""The learning loop, as `make learn` runs it: from a vague prompt to the right answers, and the same picture each time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PICTURE = ROOT / "docs" / "learning.svg"


@pytest.fixture
def fresh(broker, names) -> dict[str, str]:
    """An environment in which nothing is set up but a broker: the demonstration starts one of its own."""
    own = ("BACKTALK_", "OPENAI_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "BACKTALK_AMQP_URL": broker.url, "BACKTALK_NAMESPACE": names.namespace}


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text("utf-8").splitlines()]


async def test_a_vague_prompt_learns_the_task(fresh, tmp_path) -> None:
    """Accuracy rises to all of the e-mails, and the picture in the documentation is the one that is drawn."""
    picture = tmp_path / "learning.svg"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "learn.py"), "--out", str(picture)),
        env=fresh,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    told = output.decode()
    assert process.returncode == 0, told
    accuracies = [float(number) for number in re.findall(r"accuracy ([\d.]+)", told)]
    assert len(accuracies) == 4
    assert accuracies[0] < 0.5
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] == 1.0
    assert "SIMULATED" in told
    assert "Warning" not in told
    assert picture.read_bytes() == PICTURE.read_bytes()
    assert b"simulated model" in picture.read_bytes()


def test_the_targets_are_of_the_example_emails() -> None:
    """Each e-mail has one category in lower case."""
    targets, mails = read("categories.jsonl"), read("support_emails.jsonl")
    assert len(targets) == len({target["custom_id"] for target in targets}) >= 20
    assert {target["custom_id"] for target in targets} <= {mail["custom_id"] for mail in mails}
    assert all(target["category"].islower() for target in targets)
