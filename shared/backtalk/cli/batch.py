"""`backtalk batch`: many requests from a file, sent at once, and collected, watched or cancelled whenever you like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from backtalk.batches import batch as batches
from backtalk.batches.engine import Engine, OnFacts
from backtalk.batches.ledger import Ledger
from backtalk.batches.report import report
from backtalk.batches.state import Facts, Form, Status
from backtalk.batches.store import Store
from backtalk.cli.batch_options import Follow, Id, StateFolder, folder_of, seconds
from backtalk.cli.console import INTERRUPTED, console, run
from backtalk.cli.copying import copy
from backtalk.cli.following import checking, progress
from backtalk.cli.options import PATIENCE, AsJson, Namespace, Url, names_of
from backtalk.cli.tables import at, print_json, print_table
from backtalk.client import Client

NOT_ALL: Final = 3
NOT_YET: Final = 4
_LOOK_SECONDS: Final = 0.5
_BROKER_SECONDS: Final = 60.0

Work: TypeAlias = Callable[[Engine], Awaitable[None]]

app = typer.Typer(
    name="batch",
    help="Send a file of requests, and collect the results later: OpenAI's Batch API on endpoints of your own.",
    epilog="Exit codes: 0 done; 1 an error; 2 a wrong command line; 3 ended, and not every request was completed; "
    "4 not ended yet; 130 interrupted: nothing is lost, `backtalk batch status ID --watch` goes on.",
    no_args_is_help=True,
)


@app.command(
    epilog="Examples: backtalk batch submit requests.jsonl | backtalk batch submit requests.jsonl --wait "
    "--in-flight 500 | backtalk batch submit requests.jsonl --expires 24h --out results.jsonl"
)
def submit(
    requests: Annotated[
        Path,
        typer.Argument(help="Requests in OpenAI's batch form, one a line.", exists=True, dir_okay=False),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file of results; else it lies with the state.")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option("--errors", help="The file of failures; else it lies with the state.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="How long the batch may take: 90s, 30m, 24h, 7d. For ever, if not told."),
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="OpenAI's lines, or Backtalk's, which add graphs and the like.")
    ] = Form.OPENAI,
    wait: Annotated[bool, typer.Option("--wait", help="Stay, and write the results as they come.")] = False,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="With --wait: how many are under way at once; 256 if not told.")
    ] = None,
    state: StateFolder = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Check a file, put its requests into the queue, and print the id of the batch.

    All of them lie in the queue then, on the broker's disk, and their results gather in a queue of the batch's own
    until `status` or `results` fetches them. With --wait, no more than --in-flight lie there at once.
    """
    if in_flight is not None and not wait:
        raise typer.BadParameter("needs --wait: nobody would send the others", param_hint="--in-flight")
    store = batches.create(
        folder_of(state),
        requests,
        namespace=names_of(namespace).namespace,
        output=out,
        errors=errors,
        form=form,
        window_seconds=None if expires is None else seconds(expires),
    )
    with closing(store):
        with checking(requests.stat().st_size) as on_bytes:
            window = (in_flight or 256) if wait else None
            batches.begun(store, in_flight=window, on_bytes=on_bytes)
        typer.echo(store.plan.id)
        _work(store, url, Engine.follow if wait else Engine.send)
        if wait:
            _say(_ending(store))
            raise typer.Exit(_code(store.facts()))


@app.command(epilog="Examples: backtalk batch status batch_4f1c | backtalk batch status batch_4f1c --watch")
def status(
    id: Id,
    watch: Follow = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Print what is known here, and collect nothing.")
    ] = False,
    state: StateFolder = None,
    url: Url = None,
) -> None:
    """Fetch what was answered, and print the batch as OpenAI's Batch API shows it.

    With --watch, it stays until the batch has ended, and sends what was not sent yet.
    """
    with _found(state, id) as store:
        if not offline:
            _work(store, url, Engine.follow if watch else Engine.look)
        print_json(report(store.plan, store.facts()))


@app.command(
    epilog="Examples: backtalk batch results batch_4f1c > results.jsonl | backtalk batch results batch_4f1c --wait "
    "--out results.jsonl --errors errors.jsonl"
)
def results(
    id: Id,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to copy the results; else they are printed.")
    ] = None,
    errors: Annotated[Path | None, typer.Option("--errors", help="Where to copy the failures.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")] = False,
    state: StateFolder = None,
    url: Url = None,
) -> None:
    """Fetch what was answered, and give out the results there are: in the order of the requests once all are there.

    Exits with 4 where more will come, and with 3 where some requests failed, expired or were cancelled.
    """
    with _found(state, id) as store:
        _work(store, url, Engine.follow if wait else Engine.look)
        facts = store.facts()
        copy(store.plan.output, facts.output_bytes, out)
        if errors is not None and store.plan.errors is not None:
            copy(store.plan.errors, facts.error_bytes, errors)
        _say(_ending(store))
        raise typer.Exit(_code(facts))


@app.command(epilog="Examples: backtalk batch cancel batch_4f1c | backtalk batch cancel batch_4f1c --now")
def cancel(
    id: Id,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for answers: what has none by now is cancelled.")
    ] = False,
    state: StateFolder = None,
    url: Url = None,
) -> None:
    """Cancel what was not answered yet, and wait until the workers have said so.

    What was answered stays in the results. What a worker was at is answered with what was paid until then.
    """
    with _found(state, id) as store:
        batches.cancel(store)
        _work(store, url, Engine.leave if now else Engine.follow)
        print_json(report(store.plan, store.facts()))


@app.command(name="list", epilog="Example: backtalk batch list --json")
def list_batches(as_json: AsJson = False, state: StateFolder = None) -> None:
    """List the batches that were sent from here, the oldest first, as far as is known here."""
    told = [report(plan, facts) for plan, facts in batches.all_batches(folder_of(state))]
    if as_json:
        print_json({"object": "list", "data": told})
        return
    counts = [one["request_counts"] for one in told]
    print_table(
        ("id", "created", "status", "total", "completed", "failed", "input"),
        (
            (one["id"], at(one["created_at"]), one["status"], *count.values(), one["input_file"])
            for one, count in zip(told, counts, strict=True)
        ),
        whole=("id", "created", "status"),
    )


@contextmanager
def _found(state: Path | None, id: str) -> Iterator[Store]:
    with closing(Store(batches.find(folder_of(state), id))) as store:
        yield store


def _work(store: Store, url: str | None, work: Work) -> None:
    """Do some work on a batch, unless it is not checked yet; another process that is at it is waited for."""
    if store.facts().status is Status.VALIDATING:
        return
    try:
        run(_worked(store, url, work))
    except typer.Exit as left:
        if left.exit_code == INTERRUPTED:
            _say(f"nothing is lost; `backtalk batch status {store.plan.id} --watch` goes on")
        raise


async def _worked(store: Store, url: str | None, work: Work) -> None:
    with progress() as on_facts:
        while not await _tried(store, url, work, on_facts):
            if work is Engine.look:
                _say("another process works on this batch; this is what it has noted")
                return
            on_facts(store.facts())
            await asyncio.sleep(_LOOK_SECONDS)


async def _tried(store: Store, url: str | None, work: Work, on_facts: OnFacts) -> bool:
    """Do some work on a batch, unless another process is at it."""
    with batches.working(store) as ours:
        if ours and not store.facts().status.ended:
            patience = PATIENCE if work is Engine.look else _BROKER_SECONDS
            with Ledger(store) as ledger:
                async with Client(url, namespace=store.plan.namespace, patience=patience) as client:
                    await work(Engine(client, store, ledger, on_facts))
        return ours


def _ending(store: Store) -> str:
    """Return how a batch stands, in a sentence."""
    plan, facts = store.plan, store.facts()
    if facts.problems:
        return f"failed: nothing was sent; `backtalk batch status {plan.id}` lists what is wrong with {plan.input}"
    told = f"{facts.status.value}: {facts.completed:,} of {facts.total:,} completed in {plan.output}"
    failed = f"; {facts.failed:,} failed, see {plan.errors}" if facts.failed else ""
    unsent = facts.total - facts.sent
    more = f"; {unsent:,} are not sent, `backtalk batch status {plan.id} --watch` sends them"
    return told + failed + (more if unsent and facts.status is Status.IN_PROGRESS else "")


def _code(facts: Facts) -> int:
    if not facts.status.ended:
        return NOT_YET
    return 0 if facts.status is Status.COMPLETED and not facts.failed else NOT_ALL


def _say(text: str) -> None:
    console.print(f"backtalk: {text}", markup=False, highlight=False, soft_wrap=True)
