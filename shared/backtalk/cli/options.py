"""The options that verbs have in common: which broker, which queues, and in which form they answer."""

from __future__ import annotations

import os
from typing import Annotated, Final, TypeAlias

import typer

from backtalk.operate.letters import RESULTS
from backtalk.operate.management import Management, NotTold
from backtalk.transport.topology import DEFAULT_URL, ROLES, Names

PATIENCE: Final = 10.0
DEAD: Final = "dead"

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="BACKTALK_AMQP_URL", help=f"The broker; {DEFAULT_URL} if not told.", show_envvar=True
    ),
]
Namespace: TypeAlias = Annotated[
    str | None, typer.Option(envvar="BACKTALK_NAMESPACE", help="Prefix of the queues; backtalk if not told.")
]
ManagementUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="BACKTALK_MANAGEMENT_URL",
        help="RabbitMQ's management API, for what AMQP does not tell: http://user:password@host:15672",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Role: TypeAlias = Annotated[str | None, typer.Option(help=f"Only the letters of one: {' or '.join(ROLES)}.")]
Queue: TypeAlias = Annotated[
    str,
    typer.Option(
        help=f"Whose letters: {DEAD}, or {RESULTS} for answers that nobody took (results.unrouted)."
    ),
]
Code: TypeAlias = Annotated[
    str | None, typer.Option(help="Only letters with this code, as in worker_crashed.")
]


def broker_of(url: str | None) -> str:
    return url or os.environ.get("BACKTALK_AMQP_URL") or DEFAULT_URL


def names_of(namespace: str | None) -> Names:
    return Names(namespace or os.environ.get("BACKTALK_NAMESPACE") or "backtalk")


def letters_of(queue: str, role: str | None) -> tuple[str, ...]:
    """Return what stands where a role would; raises BadParameter for a queue that there is not."""
    if queue == DEAD:
        return roles_of(role)
    if queue != RESULTS:
        raise typer.BadParameter(f"{queue!r} is none; it is {DEAD} or {RESULTS}", param_hint="--queue")
    if role is not None:
        raise typer.BadParameter("answers of both workers are in one queue", param_hint="--role")
    return (RESULTS,)


def roles_of(role: str | None) -> tuple[str, ...]:
    """Return the roles that are meant; raises BadParameter for one that there is not."""
    if role is None:
        return ROLES
    if role not in ROLES:
        raise typer.BadParameter(f"{role!r} is none; it is {' or '.join(ROLES)}", param_hint="--role")
    return (role,)


def management_of(management_url: str | None, url: str | None) -> Management | NotTold | None:
    """Return the management API, or why the URL leads to none."""
    if not management_url:
        return None
    try:
        return Management(management_url, amqp_url=broker_of(url))
    except NotTold as error:
        return error
