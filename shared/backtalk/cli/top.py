"""`backtalk top`: queues, workers, models and what goes wrong, live or once."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from typing import Annotated, Final
from urllib.parse import SplitResult

import typer
from rich.console import Console
from rich.live import Live

from backtalk.cli.console import run
from backtalk.cli.options import AsJson, ManagementUrl, Namespace, Url, broker_of, management_of, names_of
from backtalk.cli.tables import UNBROKEN, print_json
from backtalk.cli.top_tables import shown
from backtalk.models.usage import price
from backtalk.operate.costs import Prices, prices
from backtalk.operate.levels import levels
from backtalk.operate.lines import View
from backtalk.operate.management import Management, NotTold
from backtalk.operate.rates import Snapshot
from backtalk.operate.scrape import NoWorkerAddress, address, scrape
from backtalk.operate.view import view
from backtalk.transport.topology import Names

# shorter than elsewhere: a look that is late is no look
PATIENCE: Final = 2.0
# jobs take seconds: between two looks too few of them end
_WINDOW_SECONDS: Final = 30.0
_NO_WORKERS: Final = (
    "no workers were asked: name them with --worker http://host:8081 or BACKTALK_WORKERS=host1,host2 "
    "(their BACKTALK_HEALTH_PORT)"
)
_NO_PARSER: Final = "workers were not asked: prometheus-client is missing; pip install 'backtalk[workers]'"

app = typer.Typer()


@dataclass
class Watch:
    """Looks at a broker and its workers, and remembers those of the last half minute."""

    url: str
    names: Names
    management: Management | NotTold | None
    workers: tuple[SplitResult, ...]
    note: str | None
    looks: deque[Snapshot] = field(default_factory=deque)

    async def look(self) -> View:
        found, workers = await asyncio.gather(
            levels(self.url, self.names, self.management, patience=PATIENCE), scrape(self.workers)
        )
        now = time.monotonic()
        self.looks.append(Snapshot(now, workers))
        while len(self.looks) > 2 and now - self.looks[0].at > _WINDOW_SECONDS:
            self.looks.popleft()
        return view(self.names.namespace, found, tuple(self.looks), _prices, note=self.note)


@app.command(
    epilog="Examples: backtalk top --worker localhost:8081 | "
    "backtalk top --worker forward-worker --worker backward-worker --management-url http://guest:guest@localhost:15672 | "
    "backtalk top --once --json | jq .queues"
)
def top(
    worker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A worker's health port, as http://host:8081 or host; a name with several addresses means all "
            "of them. Repeat it for more workers. [env var: BACKTALK_WORKERS, separated by commas]",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print one table and end; usual where this is no terminal.")
    ] = False,
    as_json: AsJson = False,
    interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks; --once takes its rates from two.")
    ] = 2.0,
    url: Url = None,
    namespace: Namespace = None,
    management_url: ManagementUrl = None,
) -> None:
    """Watch queues, workers, models, tokens, cost and failures. Ctrl-C ends it; nothing is changed or taken.

    Queues are seen through the management API, or with less to tell through AMQP; all else through the metrics of the
    workers. What cannot be asked is said, and the rest is shown.
    """
    asked = _addresses(worker)
    readable = find_spec("prometheus_client") is not None
    note = _NO_WORKERS if not asked else None if readable else _NO_PARSER
    watch = Watch(
        broker_of(url),
        names_of(namespace),
        management_of(management_url, url),
        asked if readable else (),
        note,
    )
    if once or as_json or not _live():
        told: View = run(_once(watch, interval))
        if as_json:
            print_json(asdict(told))
        else:
            Console(width=None if sys.stdout.isatty() else UNBROKEN, highlight=False).print(shown(told))
        if not _anything(told):
            raise typer.Exit(1)
    else:
        run(_watch(watch, interval))


def _live() -> bool:
    return sys.stdout.isatty() and not Console().is_dumb_terminal


def _anything(told: View) -> bool:
    """Tell whether anybody answered at all."""
    return any(one.there is not None for one in told.queues) or any(
        one.problem is None for one in told.workers
    )


async def _once(watch: Watch, interval: float) -> View:
    if watch.workers:
        await watch.look()
        await asyncio.sleep(interval)
    return await watch.look()


async def _watch(watch: Watch, interval: float) -> None:
    """Show look after look until somebody interrupts, which is how it ends and no fault."""
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        live.update("looking …", refresh=True)
        try:
            while True:
                told = await watch.look()
                live.update(shown(told, height=console.height), refresh=True)
                await asyncio.sleep(interval)
        except asyncio.CancelledError:
            return


def _addresses(given: list[str] | None) -> tuple[SplitResult, ...]:
    told = given or [os.environ.get("BACKTALK_WORKERS", "")]
    try:
        return tuple(address(one) for one in dict.fromkeys(_parts(told)))
    except NoWorkerAddress as error:
        raise typer.BadParameter(str(error), param_hint="--worker") from error


def _parts(told: list[str]) -> Iterator[str]:
    for one in ",".join(told).split(","):
        if stripped := one.strip():
            yield stripped


@lru_cache(maxsize=1024)
def _prices(endpoint: str, model: str) -> Prices | None:
    return prices(lambda used, at, of: price(used, endpoint=at, model=of), endpoint, model)
