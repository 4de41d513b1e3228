"""`backtalk topology`: the exchanges, queues and bindings that Backtalk works with, and whether a broker has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from backtalk.cli.console import console, run
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
from backtalk.cli.tables import print_json, print_table
from backtalk.operate import declared
from backtalk.operate.declared import WRONG, Finding, State, described
from backtalk.operate.management import Management
from backtalk.operate.policies import limits_command, limits_policy
from backtalk.transport.rabbitmq.declaring import WAYS_OUT
from backtalk.transport.topology import topology as topology_of

app = typer.Typer(
    name="topology",
    help="Show the exchanges and queues of Backtalk, compare a broker with them, or declare them.",
    no_args_is_help=True,
)


@app.command(epilog="Example: backtalk topology show --namespace shop --json")
def show(as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Print what workers declare, and the policy that one would set for lengths. No broker is asked."""
    names = names_of(namespace)
    whole = topology_of(names)
    if as_json:
        limits = {**limits_policy(names), "command": limits_command(names)}
        print_json({**asdict(whole), "policy": limits})
        return
    print_table(
        ("exchange", "type", "arguments"), ((x.name, x.kind, _told(x.arguments)) for x in whole.exchanges)
    )
    typer.echo()
    print_table(
        ("queue", "arguments"), ((q.name, _told(q.arguments)) for q in whole.queues), whole=("queue",)
    )
    typer.echo()
    print_table(("exchange", "key", "queue"), ((b.exchange, b.key, b.queue) for b in whole.bindings))
    typer.echo(f"\nLengths belong in a policy, since arguments cannot be changed:\n  {limits_command(names)}")


@app.command(epilog="Example: backtalk topology check --management-url http://guest:guest@localhost:15672")
def check(
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
    management_url: ManagementUrl = None,
) -> None:
    """Compare a broker with what workers declare, and make nothing. Exits with 1 where anything is missing or different."""
    management = management_of(management_url, url)
    if management is not None and not isinstance(management, Management):
        raise typer.BadParameter(str(management), param_hint="--management-url")
    findings: Sequence[Finding] = run(
        declared.check(broker_of(url), names_of(namespace), management=management, patience=PATIENCE)
    )
    if as_json:
        print_json({"objects": [asdict(one) for one in findings]})
    else:
        _print(findings)
    if any(one.state in WRONG for one in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: backtalk topology apply --url amqp://admin:secret@broker/")
def apply(as_json: AsJson = False, url: Url = None, namespace: Namespace = None) -> None:
    """Declare everything, as a worker does at its start, and tell what was made."""
    made: Sequence[Finding] = run(declared.apply(broker_of(url), names_of(namespace), patience=PATIENCE))
    if as_json:
        print_json({"made": [{"kind": one.kind, "name": one.name} for one in made]})
        return
    for one in made:
        typer.echo(f"made {one.kind} {one.name}")
    typer.echo("all bindings are made" if made else "everything was there; all bindings are made")


def _print(findings: Sequence[Finding]) -> None:
    print_table(
        ("object", "name", "state", "argument", "wanted", "found"),
        ((x.kind, x.name, x.state.value, x.argument or "", x.wanted or "", x.found or "") for x in findings),
        whole=("object", "name", "state"),
    )
    for note in dict.fromkeys(one.note for one in findings if one.note):
        _say(f"not checked: {note}", "yellow")
    states = {one.state for one in findings}
    if State.DIFFERENT in states:
        told = "; ".join(described(one) for one in findings if one.state is State.DIFFERENT)
        _say(f"{told}. {WAYS_OUT}", "red")
    if State.MISSING in states:
        _say("something is missing: run `backtalk topology apply`, or start a worker", "red")


def _say(text: str, style: str) -> None:
    console.print(f"backtalk: {text}", style=style, markup=False, highlight=False, soft_wrap=True)


def _told(arguments: Any) -> str:
    return json.dumps(dict(arguments)) if arguments else ""
