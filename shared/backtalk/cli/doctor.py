"""`backtalk doctor`: what is wrong with a broker and the settings here, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import typer
from rich.console import Console
from rich.text import Text

from backtalk.cli.console import run
from backtalk.cli.options import (
    PATIENCE,
    AsJson,
    ManagementUrl,
    Namespace,
    Url,
    broker_of,
    management_of,
    names_of,
)
from backtalk.cli.tables import print_json
from backtalk.operate.checks import Check, Status
from backtalk.operate.contents import printable
from backtalk.operate.doctor import examine
from backtalk.operate.limits import NoWorkerLimits, WorkerLimits

_STYLES: Final = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.FAILED: "red",
    Status.UNKNOWN: "dim",
}

app = typer.Typer()


@app.command(epilog="Example: backtalk doctor --management-url http://guest:guest@localhost:15672 --json")
def doctor(
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
    management_url: ManagementUrl = None,
) -> None:
    """Look for what goes wrong in operation: the broker, its queues, policies, and the worker settings set here.

    Exits with 1 where a check failed, and with 0 where there are no more than warnings. Nothing is left on the broker.
    """
    checks: Sequence[Check] = run(
        examine(
            broker_of(url),
            names_of(namespace),
            limits=_limits(),
            management=management_of(management_url, url),
            patience=PATIENCE,
        )
    )
    if as_json:
        print_json({"checks": [asdict(one) for one in checks]})
    else:
        _print(checks)
    if any(one.status is Status.FAILED for one in checks):
        raise typer.Exit(1)


def _limits() -> WorkerLimits | NoWorkerLimits:
    """Return what a worker that is started here would run with."""
    try:
        from pydantic import ValidationError

        from backtalk.runtime.settings import Settings
        from backtalk.runtime.settings_told import explain
    except ModuleNotFoundError as error:
        told = f"worker settings were not checked: {error.name} is missing"
        return NoWorkerLimits(Status.UNKNOWN, told, "pip install 'backtalk[workers]'")
    try:
        settings = Settings()
    except ValidationError as error:
        return NoWorkerLimits(
            Status.FAILED, explain(error), "set the variables as told; forward-worker --help lists all"
        )
    return WorkerLimits(settings.memory_bound(), settings.job_budget_seconds, settings.drain_seconds)


def _print(checks: Sequence[Check]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    name, status = (max(len(value) for value in values) for values in _widths(checks))
    for one in checks:
        console.print(
            Text(f"{one.status.value:<{status}}", _STYLES[one.status]),
            Text(f" {one.name:<{name}}  {printable(one.told)}"),
        )
        if one.remedy and one.status is not Status.OK:
            console.print(Text(f"{'':<{status}}  {'':<{name}}  → {printable(one.remedy)}"))


def _widths(checks: Sequence[Check]) -> tuple[list[str], list[str]]:
    return [one.name for one in checks], [one.status.value for one in checks]
