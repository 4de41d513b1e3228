"""The command line: one verb a function, everything it does lies elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from backtalk.client import BrokerUnreachable, Client, Refused, TransportError
from backtalk.client.batchfile import BadFile, read_requests
from backtalk.client.submit import Summary, submit
from backtalk.drawing import NoDot, read, write
from backtalk.schemas import write_schemas

app = typer.Typer(
    name="backtalk",
    help="Language-model calls that learn from feedback, over RabbitMQ.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

INTERRUPTED = 130


def main() -> None:
    try:
        app()
    except (BadFile, BrokerUnreachable, TransportError, Refused, OSError) as error:
        console.print(f"backtalk: {error}", style="red", markup=False, highlight=False)
        sys.exit(1)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; Ctrl-C and SIGTERM end it in order."""

    async def interruptible() -> Any:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(interruptible())
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted", style="yellow")
        raise typer.Exit(INTERRUPTED) from None


@app.command(name="version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("backtalk"))


@app.command(
    name="submit",
    epilog="Example: backtalk submit requests.jsonl --out results.jsonl --in-flight 200",
)
def submit_file(
    requests: Annotated[
        Path,
        typer.Argument(
            help="Requests in OpenAI's batch form, one JSON object a line.", exists=True, dir_okay=False
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where the results go, in the order of the requests.")
    ],
    in_flight: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 256,
    resend: Annotated[
        bool, typer.Option("--resend", help="Send again what was sent but never answered.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(envvar="BACKTALK_AMQP_URL", help="The broker.", show_envvar=True)
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(envvar="BACKTALK_NAMESPACE", help="Prefix of the queues.")
    ] = None,
) -> None:
    """Send a whole file of jobs and collect the results.

    Interrupt it whenever you like: the same command again goes on where it stopped, and neither sends nor pays
    twice what is queued or done.
    """
    summary: Summary = _run(_submit(requests, out, in_flight, resend, url, namespace))
    earlier = f", {summary.done_before} of them by an earlier run" if summary.done_before else ""
    console.print(f"{summary.total} results in {out}{earlier}; {summary.failed} failed", highlight=False)


async def _submit(
    requests: Path, out: Path, in_flight: int, resend: bool, url: str | None, namespace: str | None
) -> Summary:
    checked = read_requests(requests)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("requests", total=len(checked.lines))
        async with Client(url, namespace=namespace) as client:
            return await submit(
                client,
                checked,
                out,
                in_flight=in_flight,
                resend=resend,
                on_progress=lambda done: bar.update(task, completed=done),
            )


@app.command(
    epilog="Examples: backtalk render job.json | backtalk render job.json --item 2 --json | backtalk render - < job.json"
)
def render(
    job: Annotated[
        typer.FileBinaryRead, typer.Argument(help="A job's body, as JSON; - is the standard input.")
    ],
    item: Annotated[int | None, typer.Option(help="Of a batch, only this item (from 0).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole bodies as JSON lines.")] = False,
) -> None:
    """Print exactly what the model would receive for a job, without calling it.

    The worker's settings count: BACKTALK_TOOL_MODE, BACKTALK_TOOL_TEMPLATES and BACKTALK_ENDPOINTS.
    """
    try:
        from backtalk.local import render as rendering
    except ModuleNotFoundError as error:
        raise BadFile(f"{error.name} is missing; pip install 'backtalk[workers]'") from error
    rendered = rendering.rendered(job.read(), item=item)
    for sample, sent in rendered.bodies.items():
        if as_json:
            typer.echo(json.dumps(sent, ensure_ascii=False))
            continue
        if sample is not None:
            typer.echo(f"═══ item {sample}")
        typer.echo(rendering.as_text(sent) + "\n")
    for warning in rendered.warnings:
        console.print(f"backtalk: {warning}", style="yellow", markup=False, highlight=False)


@app.command(
    epilog="Examples: backtalk graph result.json | backtalk graph graph.json --gradients gradients.json --out graph.svg "
    "| backtalk graph - --out graph.dot < feedback.json"
)
def graph(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="JSON that holds a graph; - is the standard input.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Where it goes: .html, .dot, .gv, or .svg, which needs Graphviz."),
    ] = Path("graph.html"),
    gradients: Annotated[
        typer.FileBinaryRead | None, typer.Option(help="The answer to feedback on the graph, as JSON.")
    ] = None,
) -> None:
    """Draw variables, operations and gradients: a page to click through, a picture, or the source of one.

    FILE is a graph, a completion result, a feedback body (fragments are joined), or {"graph": …, "gradients": …}.
    """
    try:
        write(out, *read(file, gradients))
    except (ValueError, NoDot) as error:
        raise BadFile(str(error)) from error
    typer.echo(out)


@app.command(epilog="Example: backtalk demo")
def demo(
    jobs: Annotated[
        Path, typer.Option(help="The e-mails, in OpenAI's batch form.", exists=True, dir_okay=False)
    ] = Path("examples/support_emails.jsonl"),
) -> None:
    """Run customer e-mails through both workers on this machine, with a simulated model unless OPENAI_BASE_URL is set."""
    from backtalk.local.demo import demo as run_demo

    _run(_guarded(run_demo(jobs, Console())))


@app.command(name="local", epilog="Example: backtalk local")
def run_local() -> None:
    """Run broker, model and both workers on this machine until Ctrl-C, for trying things out."""
    _run(_guarded(_local()))


async def _local() -> None:
    from backtalk.local.stack import stack

    if os.environ.get("BACKTALK_AMQP_URL") and not os.environ.get("OPENAI_BASE_URL"):
        raise BadFile(
            "a simulated model would answer the jobs on your broker; "
            "set OPENAI_BASE_URL, or unset BACKTALK_AMQP_URL to start a private broker"
        )
    async with stack(namespace=os.environ.get("BACKTALK_NAMESPACE") or "backtalk") as running:
        console.print(
            f"export BACKTALK_AMQP_URL={running.amqp_url}\n"
            f"model: {running.model_url}{' (simulated)' if running.simulated else ''}\n"
            f"logs:  {running.logs}\nCtrl-C stops everything.",
            highlight=False,
        )
        await asyncio.Event().wait()


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    from backtalk.local.broker import BrokerFailed
    from backtalk.local.processes import ProcessFailed

    try:
        await work
    except (BrokerFailed, ProcessFailed) as error:
        console.print(f"backtalk: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error


@app.command(epilog="Example: backtalk schemas --out docs/schemas")
def schemas(out: Annotated[Path, typer.Option(help="The folder they go to.")] = Path("docs/schemas")) -> None:
    """Write the JSON Schemas of all messages."""
    for path in write_schemas(out):
        typer.echo(path)
