"""Make the pictures of the documentation: `make pictures`. Terminals become SVG, pages are photographed by Chromium."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from itertools import count, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pexpect
import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

from backtalk import Client, Parameter, Refused, Variable, connect, set_backward_model_client
from backtalk import functional as F  # noqa: N812  as programs of tensors call it
from backtalk.local.broker import free_ports
from backtalk.local.stack import stack, worker
from backtalk.models.openai import OpenAI

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = ROOT / "docs" / "pictures"
COLUMNS: Final = 92
LINES: Final = 400
SECONDS: Final = 180
LOAD_SECONDS: Final = 20
BACKTALK: Final = str(Path(sys.executable).with_name("backtalk"))
# the fonts that rich names would be fetched from elsewhere
_FORMAT: Final = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def cast(command: Sequence[str], path: Path, *, first: int = LINES, last: int = 0) -> None:
    """Run a command in a terminal and draw what it leaves there: so many first and last lines, the rest left out."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.Stream(screen)
    # as much as a person would see, with colours and progress
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = pexpect.spawn(
        command[0],
        list(command[1:]),
        dimensions=(LINES, COLUMNS),
        env=environment,
        encoding="utf-8",
        cwd=ROOT,
    )
    stream.feed(_all_of(process))
    rows = [_row(screen, y) for y in range(screen.cursor.y + 1)]
    while rows and not rows[-1].plain.strip():
        rows.pop()
    if len(rows) > first + last:
        rows = [*rows[:first], Text("  ⋮", style="dim"), *rows[-last:]]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for row in rows:
        console.print(row, no_wrap=True, overflow="crop")
    path.write_text(
        console.export_svg(title=f"backtalk {command[1]}", code_format=_FORMAT, unique_id=path.stem), "utf-8"
    )


def _all_of(process: pexpect.spawn[str]) -> str:
    process.expect(pexpect.EOF, timeout=SECONDS)
    process.close()
    if process.exitstatus:
        raise SystemExit(f"the command ended with {process.exitstatus}:\n{process.before}")
    return str(process.before)


def _row(screen: pyte.Screen, y: int) -> Text:
    row = Text()
    cells = [screen.buffer[y][x] for x in range(COLUMNS)]
    for (colour, ground, bold), alike in groupby(cells, key=lambda cell: (cell.fg, cell.bg, cell.bold)):
        style = Style(color=_colour(colour), bgcolor=_colour(ground), bold=bold)
        row.append("".join(cell.data for cell in alike), style)
    row.rstrip()
    return row


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    # the terminal's dark yellow
    return name.replace("brown", "yellow").replace("bright", "bright_", 1)


def photograph(page: Path, path: Path, *, width: int, height: int) -> None:
    """Let Chromium take a picture of a page, without a network."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no browser: apt-get install chromium")
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=3000",
    )
    size = f"--window-size={width},{height}"
    subprocess.run(
        [browser, *options, size, f"--screenshot={path}", page.as_uri()], check=True, capture_output=True
    )


def draw_graph(page: Path) -> None:
    """Run a program of two calls, criticise it, and write the page of its graph with the gradients."""
    client = OpenAI(model="gpt-4o")
    set_backward_model_client("openai/gpt-4o")
    prompt = Parameter("You are a helpful assistant.", role="system prompt")
    languages = ["Italian", "French", "German"]
    question = Variable("Translate 'Hello' to {language}.", role="question")
    messages = [{"role": "system", "content": [prompt]}, {"role": "user", "content": [question]}]
    greetings = F.chat_completion(client, messages, inputs={"language": languages})
    _, explanation = F.exact_match_evaluator(greetings, ["CIAO", "BONJOUR", "HALLO"])
    explanation.backward(retain_graph=True)
    explanation.graph().save(page)


async def watch(path: Path) -> None:
    """Draw `backtalk top` beside two workers that are at work."""
    ports = free_ports(2)
    async with AsyncExitStack() as opened:
        logs = Path(opened.enter_context(TemporaryDirectory()))
        running = await opened.enter_async_context(stack(namespace="shop", latency=0.4, management=True))
        told = {
            **os.environ,
            "BACKTALK_AMQP_URL": running.amqp_url,
            "BACKTALK_NAMESPACE": running.namespace,
            "OPENAI_BASE_URL": running.model_url,
            "OPENAI_API_KEY": "simulated",
            "BACKTALK_CONCURRENCY": "8",
        }
        for role, port in zip(("forward", "backward"), ports, strict=True):
            await opened.enter_async_context(worker(role, {**told, "BACKTALK_HEALTH_PORT": str(port)}, logs))
        load = asyncio.create_task(_load(running.amqp_url, running.namespace))
        opened.callback(load.cancel)
        await asyncio.sleep(LOAD_SECONDS)
        where = ("--url", running.amqp_url, "--namespace", running.namespace)
        workers = [word for port in ports for word in ("--worker", f"127.0.0.1:{port}")]
        command = [
            BACKTALK,
            "top",
            "--once",
            *where,
            *workers,
            "--management-url",
            str(running.management_url),
        ]
        await asyncio.to_thread(cast, command, path)


async def _load(url: str, namespace: str) -> None:
    """Send jobs, feedback on every fourth, and now and then a job that nobody can do."""
    async with Client(url, namespace=namespace) as client, asyncio.TaskGroup() as sent:
        for at in count():
            sent.create_task(_one(client, at))
            await asyncio.sleep(0.04)


async def _one(client: Client, at: int) -> None:
    prompt = {"data": "You are a helpful assistant.", "role": "system prompt", "requires_grad": True}
    messages = [
        {"role": "system", "content": [prompt]},
        {"role": "user", "content": f"Say hello {at} times."},
    ]
    with suppress(Refused):
        result = await client.complete(model="gpt-4o" if at % 15 else "", messages=messages)
        if at % 4 == 0 and result.graph and result.output:
            await client.feedback(result.graph, {result.output: "Use only capital letters."})


async def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    cast([BACKTALK, "demo"], PICTURES / "demo.svg", first=12, last=26)
    await watch(PICTURES / "top.svg")
    with TemporaryDirectory() as folder:
        page = Path(folder) / "graph.html"
        async with stack(namespace="pictures") as running:
            with connect(running.amqp_url, namespace=running.namespace):
                await asyncio.to_thread(draw_graph, page)
        photograph(page, PICTURES / "graph.png", width=1500, height=460)
    for picture in sorted(PICTURES.iterdir()):
        print(picture.relative_to(ROOT))


if __name__ == "__main__":
    asyncio.run(main())
