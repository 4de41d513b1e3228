"""The demonstration: customer e-mails through the whole pair, from jobs to the gradients of their one prompt."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import track
from rich.table import Table
from rich.text import Text

from backtalk.client import Client
from backtalk.local.stack import Stack, stack
from backtalk.wire.feedback import Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionResult

_SHOWN_CHARACTERS = 90
NAMESPACE = "backtalk-demo"
_REAL = """\
To run the very same on a real model and broker:
  export OPENAI_BASE_URL=https://api.openai.com/v1   (or any OpenAI-compatible server; it alone decides)
  export OPENAI_API_KEY=…
  export BACKTALK_AMQP_URL=amqp://user:password@host/   (without it, a private broker is started)"""


async def demo(jobs: Path, console: Console) -> None:
    """Run the demonstration; everything it started has ended when it returns or is interrupted."""
    lines = [json.loads(line) for line in jobs.read_text("utf-8").splitlines() if line.strip()]
    console.print("Starting the broker, the model, a forward worker and a backward worker …")
    async with (
        stack(namespace=NAMESPACE, latency=0.05) as running,
        Client(running.amqp_url, namespace=NAMESPACE) as client,
    ):
        console.print(Panel(Text(_told(running)), title="Where this runs", expand=False))
        results = await _complete(client, lines, console)
        console.print(_table(lines, results))
        gradients = await _feed_back(client, results, console)
        _show(gradients, _prompt(results), console)
    console.print("\nEverything that was started has been stopped.")
    if running.simulated:
        console.print(Panel(Text(_REAL), title="The model was simulated", expand=False))


def _told(running: Stack) -> str:
    model = (
        "SIMULATED model, no real one is asked and nothing is spent" if running.simulated else "real model"
    )
    broker = "private RabbitMQ node" if running.private else "broker of BACKTALK_AMQP_URL"
    return f"model   {running.model_url}  ({model})\nbroker  {broker}"


async def _complete(
    client: Client, lines: Sequence[Mapping[str, Any]], console: Console
) -> list[CompletionResult]:
    calls = [asyncio.create_task(client.complete(**line["body"])) for line in lines]
    for call in track(asyncio.as_completed(calls), "Completing jobs", total=len(calls), console=console):
        (await call).raise_for_status()
    return [call.result() for call in calls]


def _table(lines: Sequence[Mapping[str, Any]], results: Sequence[CompletionResult]) -> Table:
    table = Table("job", "e-mail", "response", title="Responses")
    for line, result in zip(lines, results, strict=True):
        mail = " ".join(str(line["body"]["messages"][-1]["content"]).split())
        table.add_row(
            line["custom_id"], Text(_short(mail, 24)), Text(_short(result.text or "", _SHOWN_CHARACTERS))
        )
    return table


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _prompt(results: Sequence[CompletionResult]) -> str:
    """Return the id of the one variable that all jobs share and that wants a gradient."""
    graph = results[0].graph
    assert graph is not None
    return graph.parameters()[0].id


def review(response: str) -> str:
    """Say what a reviewer would, by what the response says; praise asks for nothing."""
    if '"high"' in response:
        return (
            'An urgent e-mail needs an owner: add a field "owner" that names the team which must act today.'
        )
    if '"negative"' in response:
        return 'The customer is unhappy: add a field "apology" with one sentence that could be sent as it is.'
    return "Correct, nothing to change."


async def _feed_back(client: Client, results: Sequence[CompletionResult], console: Console) -> Gradients:
    graphs = list(_graphs(results))
    said = {result.output: review(result.text or "") for result in results if result.output}
    with console.status(f"Sending {len(said)} pieces of feedback on one graph, waiting for the gradients …"):
        return (await client.feedback(graphs, said)).raise_for_status()


def _graphs(results: Sequence[CompletionResult]) -> Iterator[Graph]:
    return (result.graph for result in results if result.graph is not None)


def _show(gradients: Gradients, prompt: str, console: Console) -> None:
    entries = gradients.gradients[prompt]
    texts = Counter(entry.text for entry in entries if entry.text)
    empty = sum(not entry.text for entry in entries)
    console.print(
        f"\n[bold]Gradients of the system prompt[/bold]: {len(entries)} in all, {len(texts)} different texts, "
        f"{empty} with nothing to say; {gradients.usage['calls']} model calls"
    )
    for text, count in texts.most_common():
        console.print(Panel(Text(text), title=f"{count} ×", title_align="left"))
