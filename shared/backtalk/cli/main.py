"""The command line: one verb a function, everything it does lies elsewhere."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from backtalk.asyncapi import NoExamples, as_yaml, document, read_examples
from backtalk.cli.batch import app as batch
from backtalk.cli.console import console, run
from backtalk.cli.dead import app as dead
from backtalk.cli.doctor import app as doctor
from backtalk.cli.files import app as files
from backtalk.cli.options import Namespace, Url, names_of
from backtalk.cli.submit import app as submit
from backtalk.cli.top import app as top
from backtalk.cli.topology import app as topology
from backtalk.client import BrokerUnreachable, Client, Refused, TransportError
from backtalk.client.batchfile import BadFile
from backtalk.schemas import write_schemas

_REMEDY: Final = "check BACKTALK_AMQP_URL or --url, and that the broker runs"

app = typer.Typer(
    name="backtalk",
    help="Language-model calls that learn from feedback, over RabbitMQ.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(submit)
app.add_typer(batch)
app.add_typer(files)
app.add_typer(dead)
app.add_typer(topology)
app.add_typer(doctor)
app.add_typer(top)


def main() -> None:
    try:
        app()
    except (BadFile, NoExamples, BrokerUnreachable, TransportError, Refused, OSError, sqlite3.Error) as error:
        # not broken into lines: a name of a file in two pieces cannot be copied
        remedy = f"; {_REMEDY}" if isinstance(error, BrokerUnreachable) else ""
        told = f"backtalk: {error}{remedy}"
        console.print(told, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


@app.command(name="version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("backtalk"))


@app.command(epilog="Example: backtalk cancel job-17 job-18")
def cancel(
    ids: Annotated[list[str], typer.Argument(help="Ids of the requests.")],
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Have requests cancelled: their senders are answered `cancelled`, or `partial` where something was paid.

    Workers that run now hear of it; with a result store, those that start later know it as well.
    """
    run(_cancel(ids, url, namespace))
    console.print(f"told all workers to cancel {', '.join(ids)}", highlight=False, markup=False)


async def _cancel(ids: list[str], url: str | None, namespace: str | None) -> None:
    async with Client(url, namespace=namespace) as client:
        for id in ids:
            await client.cancel(id)


@app.command(epilog="Example: backtalk demo")
def demo(
    jobs: Annotated[
        Path, typer.Option(help="The e-mails, in OpenAI's batch form.", exists=True, dir_okay=False)
    ] = Path("examples/support_emails.jsonl"),
) -> None:
    """Run customer e-mails through both workers on this machine, with a simulated model unless OPENAI_BASE_URL is set."""
    from backtalk.local.demo import demo as run_demo

    run(_guarded(run_demo(jobs, Console())))


@app.command(name="local", epilog="Example: backtalk local")
def run_local() -> None:
    """Run broker, model and both workers on this machine until Ctrl-C, for trying things out."""
    run(_guarded(_local()))


async def _local() -> None:
    from backtalk.local.stack import stack

    if os.environ.get("BACKTALK_AMQP_URL") and not os.environ.get("OPENAI_BASE_URL"):
        raise BadFile(
            "a simulated model would answer the jobs on your broker; "
            "set OPENAI_BASE_URL, or unset BACKTALK_AMQP_URL to start a private broker"
        )
    namespace = os.environ.get("BACKTALK_NAMESPACE") or "backtalk"
    async with stack(namespace=namespace, management=True) as running:
        http = running.management_url
        management = f"export BACKTALK_MANAGEMENT_URL={http}\n" if http else ""
        console.print(
            f"export BACKTALK_AMQP_URL={running.amqp_url}\n{management}"
            f"export BACKTALK_WORKERS={','.join(running.workers)}\n"
            f"model: {running.model_url}{' (simulated)' if running.simulated else ''}\n"
            f"logs:  {running.logs}\nCtrl-C stops everything.",
            highlight=False,
            # to be copied, however long
            soft_wrap=True,
        )
        await asyncio.Event().wait()


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    from backtalk.local.broker import BrokerFailed
    from backtalk.local.processes import ProcessFailed

    try:
        await work
    except (BrokerFailed, ProcessFailed) as error:
        console.print(f"backtalk: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


@app.command(epilog="Example: backtalk schemas --out docs/schemas")
def schemas(out: Annotated[Path, typer.Option(help="The folder they go to.")] = Path("docs/schemas")) -> None:
    """Write the JSON Schemas of all messages."""
    for path in write_schemas(out):
        typer.echo(path)


@app.command(epilog="Example: backtalk asyncapi --namespace staging --out staging.yaml")
def asyncapi(
    out: Annotated[Path, typer.Option(help="The file it goes to.")] = Path("docs/asyncapi.yaml"),
    examples: Annotated[Path, typer.Option(help="The folder of golden messages.")] = Path("tests/data"),
    namespace: Namespace = None,
) -> None:
    """Write the AsyncAPI document: messages, queues and replies, for callers in any language."""
    text = as_yaml(document(names_of(namespace), read_examples(examples)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, "utf-8")
    typer.echo(out)
