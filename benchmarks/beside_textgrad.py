"""Backtalk's backward pass under each policy beside TextGrad's: the same shapes, on the same endpoint, in one run."""

import asyncio
import json
import shutil
import sys
import tempfile
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.backward import LATENCY
from benchmarks.bodies import (
    CRITICISM,
    EMAIL,
    INSTRUCTIONS,
    batch_feedback,
    branches_feedback,
    chain_feedback,
    fan_in_feedback,
    under,
)
from benchmarks.broker import Caller, Stage, caller
from benchmarks.contenders import settings
from benchmarks.processes import ROOT, Child, endpoint, environment, stop, worker
from benchmarks.table import Row

PASSES = 5
NAME = "textgrad"
PINNED = ROOT / "benchmarks" / "textgrad.txt"
HOME = ROOT / ".bench" / "textgrad"
TEXTS = {"instructions": INSTRUCTIONS[:280], "email": EMAIL[:98], "criticism": CRITICISM}

PER_VARIABLE, PER_OPERATION = {"calls": "per_variable"}, {"calls": "per_operation"}
DIGEST = {"batch": "digest"}
ALONE = (PER_VARIABLE, PER_OPERATION)
BATCHED = (*ALONE, PER_VARIABLE | DIGEST, PER_OPERATION | DIGEST)


@dataclass(frozen=True)
class Shape:
    """A graph, for Backtalk as a message, for TextGrad as the name of what builds it; `depth` calls stand in a row.

    Only where there is a batch does `digest` differ.
    """

    name: str
    body: bytes
    depth: int
    build: tuple[str, tuple[int, ...]]
    policies: Sequence[dict[str, str]] = ALONE

    @property
    def floor(self) -> float:
        return self.depth * LATENCY


SHAPES = (
    Shape("chain of 10", chain_feedback(10), 10, ("chain", (10,))),
    Shape("32 calls, one reader", fan_in_feedback(32, sum_them=False), 2, ("reader", (32,))),
    Shape("32 calls, one sum", fan_in_feedback(32, sum_them=True), 1, ("sum", (32,))),
    Shape("16 branches of 3, one reader", branches_feedback(16, 3), 4, ("branches", (16, 3))),
    Shape("batch of 33, one prompt", batch_feedback(33, 1), 1, ("batch", (33,)), BATCHED),
)


@dataclass(frozen=True)
class Pass:
    """The calls of a backward pass, and how long it took."""

    calls: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.calls} {'call' if self.calls == 1 else 'calls'}, {self.seconds:.3f} s"


@dataclass(frozen=True)
class Contender:
    """What TextGrad did, by shape; `absent` says why there is nothing."""

    passes: dict[str, Pass] = field(default_factory=dict)
    absent: str = ""


async def textgrad(stage: Stage) -> list[Row]:
    python = await installed()
    namespace = await stage.declared(NAME)
    async with endpoint(LATENCY) as base_url:
        contender = await contending(python, base_url) if python else Contender(absent="not installed")
        async with (
            worker(("backward_worker",), settings(stage, NAME, base_url)) as child,
            caller(stage, namespace, "backward") as calling,
        ):
            await child.outlives(stage.consumed(f"{namespace}.backward"))
            # the widest opens the connections
            await gone_back(child, calling, branches_feedback(16, 3))
            ours = Ours(child, calling, base_url)
            return [
                row(shape, policy, await ours.measured(under(policy, shape.body)), contender)
                for shape in SHAPES
                for policy in shape.policies
            ]


async def installed() -> Path | None:
    """The interpreter of TextGrad's own environment, which is made on first use; None where that cannot be done."""
    python, ready = HOME / "bin" / "python", HOME / PINNED.name
    if ready.exists() and ready.read_bytes() == PINNED.read_bytes():
        return python
    print("textgrad: installing it into an environment of its own, a minute or two", file=sys.stderr)
    shutil.rmtree(HOME, ignore_errors=True)
    pip = ("-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", str(PINNED))
    for command in ((sys.executable, "-m", "venv", str(HOME)), (str(python), *pip)):
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=sys.stderr)
        if await process.wait():
            print("textgrad: it could not be installed, and its column says so", file=sys.stderr)
            return None
    shutil.copy(PINNED, ready)
    return python


async def contending(python: Path, base_url: str) -> Contender:
    asked = {"texts": TEXTS, "shapes": {shape.name: shape.build for shape in SHAPES}}
    script = str(ROOT / "benchmarks" / "textgrad_contender.py")
    with tempfile.TemporaryDirectory() as scratch:
        process = await asyncio.create_subprocess_exec(
            *(str(python), script, "--base-url", base_url),
            cwd=scratch,
            # it logs its prompts to files, and what it depends on would fetch a list of prices
            env=environment({"TEXTGRAD_LOG_DIR": scratch, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}),
            stdin=PIPE,
            stdout=PIPE,
        )
        try:
            said, _ = await process.communicate(json.dumps(asked).encode())
        finally:
            await stop(process)
    if process.returncode:
        return Contender(absent=f"failed with {process.returncode}")
    figures: dict[str, Any] = json.loads(said)["figures"]
    return Contender({name: Pass(one["calls"], one["seconds"]) for name, one in figures.items()})


@dataclass(frozen=True)
class Ours:
    """Backtalk's worker, and the endpoint it shares with TextGrad."""

    child: Child
    calling: Caller
    base_url: str

    async def measured(self, body: bytes) -> Pass:
        """The median of some passes; the endpoint must have had as many calls as the answers tell of."""
        before = await calls_at(self.base_url)
        passes = [await gone_back(self.child, self.calling, body) for _ in range(PASSES)]
        counted, told = await calls_at(self.base_url) - before, sum(one.calls for one in passes)
        if counted != told:
            raise RuntimeError(f"textgrad: Backtalk tells of {told} calls, and the endpoint had {counted}")
        return Pass(passes[0].calls, median(one.seconds for one in passes))


async def calls_at(base_url: str) -> int:
    """How many calls the endpoint has had, from anybody."""

    def ask() -> int:
        with urllib.request.urlopen(f"{base_url}/calls") as response:
            return int(json.load(response)["calls"])

    return await asyncio.to_thread(ask)


async def gone_back(child: Child, calling: Caller, body: bytes) -> Pass:
    seconds, answer = await child.outlives(calling.ask(body, "feedback.v1"))
    gradients = json.loads(answer)
    if gradients["status"] != "completed":
        raise RuntimeError(f"textgrad: a pass of Backtalk's was not completed: {answer[:500]!r}")
    return Pass(gradients["usage"]["calls"], seconds)


def row(shape: Shape, policy: dict[str, str], ours: Pass, contender: Contender) -> Row:
    theirs = contender.passes.get(shape.name)
    ratios = [f"{ours.seconds / shape.floor:.2f} x of floor {shape.floor:.2f} s"]
    if theirs:
        ratios.append(f"TextGrad {theirs.seconds / ours.seconds:.1f} x as long")
    return Row(
        f"{shape.name}, {', '.join(policy.values())}",
        str(ours),
        textgrad=str(theirs or contender.absent),
        ratio=", ".join(ratios),
    )
