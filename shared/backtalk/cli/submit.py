"""`backtalk submit`: a batch in one command, followed to its end, with one file of results."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from backtalk.batches import single
from backtalk.batches.batch import working
from backtalk.batches.engine import Engine
from backtalk.batches.ledger import Ledger
from backtalk.batches.store import Store
from backtalk.cli.console import console, run
from backtalk.cli.following import checking, progress
from backtalk.cli.options import Namespace, Url, names_of
from backtalk.client import Client
from backtalk.client.batchfile import BadFile

app = typer.Typer()


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
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Send a whole file of jobs and collect the results.

    Interrupt it whenever you like: the same command again goes on where it stopped, and neither sends nor pays
    twice what is queued or done. Only a run that was killed while it sent some requests sends those again, which
    costs nothing where the workers have a result store. `backtalk batch` sends a file and lets you go meanwhile.
    """
    with checking(requests.stat().st_size) as on_bytes:
        begun = single.opened(
            requests,
            out,
            namespace=names_of(namespace).namespace,
            in_flight=in_flight,
            resend=resend,
            on_bytes=on_bytes,
        )
    if isinstance(begun, single.Finished):
        _say(out, begun.total, begun.failed, begun.total)
        return
    with closing(begun) as store:
        before = store.facts().done
        run(_followed(store, out, url))
        facts = single.closed(store)
    _say(out, facts.total, facts.failed, before)


async def _followed(store: Store, out: Path, url: str | None) -> None:
    with working(store) as ours:
        if not ours:
            raise BadFile(
                f"{out}: another process writes results to it; wait for it, or choose another --out"
            )
        with Ledger(store) as ledger, progress() as on_facts:
            async with Client(url, namespace=store.plan.namespace) as client:
                await Engine(client, store, ledger, on_facts).follow()


def _say(out: Path, total: int, failed: int, before: int) -> None:
    earlier = f", {before} of them by an earlier run" if before else ""
    console.print(f"{total} results in {out}{earlier}; {failed} failed", highlight=False, markup=False)
