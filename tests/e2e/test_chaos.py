"""A short run of the fault injection: workers, broker and endpoint fail under load, and every promise holds."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# a restart of the broker, after which a sender's own consumer may rarely not come back, is for `make chaos`
FAULTS = ("sigkill", "sigterm", "500", "429", "repeat", "junk")


@asynccontextmanager
async def started(*arguments):
    """Run the fault injection; one that is not done in the end is told to end, and not to wait for anything."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.chaos", *arguments, cwd=ROOT, stdout=PIPE, stderr=STDOUT
    )
    try:
        yield process
    finally:
        while process.returncode is None:
            process.terminate()
            await asyncio.sleep(1)


# when something is lost, the run waits two minutes for it before it says so
@pytest.mark.timeout(300)
async def test_six_rounds_of_faults_lose_nothing_and_pay_for_nothing_without_need(tmp_path) -> None:
    """Each fault strikes once under steady load; whoever was sent a confirm is answered, and all else holds too."""
    report = tmp_path / "report.json"
    length = ("--rounds", str(len(FAULTS)), "--faults", ",".join(FAULTS))
    async with started(*length, "--seed", "7", "--store", "--json", str(report)) as process:
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    told = json.loads(report.read_text())
    assert told["faults"] == dict.fromkeys(sorted(FAULTS), 1)
    assert all(told["promises"].values())
    assert (told["lost"], told["broken"], told["left"]) == (0, {}, {})
    assert sum(told["answers"].values()) >= 50
