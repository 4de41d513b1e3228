"""`backtalk dead`: the letters that workers gave up on, for people to read, send to work again, or delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.filesize import decimal

from backtalk.cli.console import console, run
from backtalk.cli.options import (
    DEAD,
    PATIENCE,
    AsJson,
    Code,
    Namespace,
    Queue,
    Role,
    Url,
    broker_of,
    letters_of,
    names_of,
    roles_of,
)
from backtalk.cli.tables import at, print_json, print_table
from backtalk.operate.contents import contents, printable
from backtalk.operate.dead import DeadLetters, Look
from backtalk.operate.letters import Letter, Selection
from backtalk.transport.envelope import Envelope, TransportError

SHOWN_AT_MOST: Final = 10
_PROPERTIES: Final = ("correlation_id", "reply_to", "type", "content_type", "content_encoding")

app = typer.Typer(
    name="dead", help="Read dead letters, send them to work again, or delete them.", no_args_is_help=True
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Every letter with one of these ids.")]
All = Annotated[bool, typer.Option("--all", help="All letters, or all that --role and --code leave.")]


@app.command(
    name="list",
    epilog="Examples: backtalk dead list --role forward --code worker_crashed | backtalk dead list --queue results",
)
def list_letters(
    queue: Queue = DEAD,
    role: Role = None,
    code: Code = None,
    limit: Annotated[int, typer.Option(min=1, help="How many are listed, the oldest first.")] = 100,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List the dead letters of both workers, or the answers that nobody took, the oldest first. They stay where they are."""
    look: Look = run(_letters(url, namespace).look(Selection(letters_of(queue, role), code), limit))
    more = look.total - len(look.letters)
    if as_json:
        print_json({"letters": [_as_json(one) for one in look.letters], "more": more})
    elif look.letters:
        print_table(
            ("role", "id", "sent", "code", "text", "size", "attempt"),
            (
                (one.role, one.id, at(one.sent), one.code or "", _line(one), decimal(one.size), one.attempt)
                for one in look.letters
            ),
            whole=("role", "id", "sent", "code", "size"),
        )
    if not look.letters:
        _say("no dead letters" if queue == DEAD else "no answers that nobody took")
    if more > 0:
        _say(f"{more} more; --limit {look.total} lists all")
    _warn_of_consumers(look)


@app.command(epilog="Example: backtalk dead show 7f0c… --json | jq .letters[0].body")
def show(
    id: Annotated[str, typer.Argument(help="The letter's id, as `list` prints it.")],
    queue: Queue = DEAD,
    role: Role = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Print everything of a letter: properties, headers, and the body, unpacked."""
    selection = Selection(letters_of(queue, role), ids=frozenset({id}))
    found, total = run(_letters(url, namespace).show(selection, SHOWN_AT_MOST))
    if not found:
        raise _nothing_under([id])
    if as_json:
        letters = [_whole(one, envelope) for one, envelope in found]
        print_json({"letters": letters, "more": total - len(found)})
    else:
        typer.echo("\n\n".join(_readable(one, envelope) for one, envelope in found))
    if total > len(found):
        _say(f"{total - len(found)} more letters have this id")


@app.command(epilog="Examples: backtalk dead retry 7f0c… | backtalk dead retry --all --code worker_crashed")
def retry(
    ids: Ids = None,
    everything: All = False,
    role: Role = None,
    code: Code = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Send letters to work again, under their old ids and with new attempts.

    A letter leaves the dead queue when the broker has confirmed that it is in the work queue. Its sender gets another
    answer, under the same id.
    """
    selection = _selected(ids, everything, roles_of(role), code)
    done: list[Letter] = []
    try:
        run(_letters(url, namespace).retry(selection, done.append))
    except TransportError:
        _say(f"{len(done)} letters are at work again, the others are where they were")
        raise
    _report("retried", done, ids, as_json)


@app.command(epilog="Examples: backtalk dead purge 7f0c… | backtalk dead purge --all --role backward --yes")
def purge(
    ids: Ids = None,
    everything: All = False,
    queue: Queue = DEAD,
    role: Role = None,
    code: Code = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Delete letters for ever. What is filed while you are asked stays."""
    letters = _letters(url, namespace)
    look: Look = run(letters.look(_selected(ids, everything, letters_of(queue, role), code)))
    if look.letters and not yes:
        typer.confirm(f"Delete {_counted(look.letters)} for ever?", abort=True, err=True)
    done: list[Letter] = []
    if look.letters:
        try:
            run(letters.purge(look.letters, done.append))
        except TransportError:
            _say(f"{len(done)} letters are deleted, the others are where they were")
            raise
    _report("deleted", done, ids, as_json)


class NoLetter(TransportError):
    """Raised when nothing in the dead queues has the id that was asked for."""


def _letters(url: str | None, namespace: str | None) -> DeadLetters:
    return DeadLetters(broker_of(url), names_of(namespace), patience=PATIENCE)


def _selected(ids: list[str] | None, everything: bool, roles: tuple[str, ...], code: str | None) -> Selection:
    if bool(ids) == everything:
        raise typer.BadParameter("name the ids of letters, or say --all; `backtalk dead list` prints them")
    return Selection(roles, code, frozenset(ids) if ids else None)


def _report(verb: str, done: Sequence[Letter], ids: list[str] | None, as_json: bool) -> None:
    if as_json:
        print_json({verb: [_as_json(one) for one in done]})
    else:
        typer.echo(f"{verb} {_counted(done)}" if done else f"nothing {verb}")
    if missing := [id for id in ids or () if id not in {one.id for one in done}]:
        raise _nothing_under(missing)


def _nothing_under(ids: Sequence[str]) -> NoLetter:
    return NoLetter(f"no such letter: {printable(', '.join(ids))}; `backtalk dead list` prints all")


def _counted(letters: Sequence[Letter]) -> str:
    roles = [one.role for one in letters]
    told = " and ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles))
    return f"{told} letter{'' if len(letters) == 1 else 's'}"


def _as_json(one: Letter) -> dict[str, Any]:
    told = asdict(one)
    del told["copy"]
    return told | {"sent": at(one.sent) or None}


def _whole(one: Letter, envelope: Envelope) -> dict[str, Any]:
    read = contents(envelope)
    return {
        **_as_json(one),
        **{name: getattr(envelope, name) for name in _PROPERTIES},
        "message_id": envelope.message_id,
        "headers": _plain(envelope.headers),
        "body": read.value if read.is_json else read.text,
        "problem": read.problem,
    }


def _readable(one: Letter, envelope: Envelope) -> str:
    whole = _whole(one, envelope)
    body, problem = whole.pop("body"), whole.pop("problem")
    headers = whole.pop("headers")
    lines = [f"{name}: {value}" for name, value in whole.items() if value is not None]
    lines += [f"header {name}: {value}" for name, value in headers.items()]
    lines += [f"not unpacked: {problem}"] if problem else []
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=2)
    return printable("\n".join([*(line.replace("\n", "\\n") for line in lines), "", text]))


def _plain(headers: Any) -> Any:
    """Return headers as JSON can write them: what is no text, number, list or table is told in words."""
    return json.loads(json.dumps(dict(headers), default=str))


def _line(one: Letter) -> str:
    return " ".join((one.text or "").split())


def _warn_of_consumers(look: Look) -> None:
    if look.consumers:
        _say(f"{look.consumers} consumers take letters from these queues; what they hold is not listed")


def _say(text: str) -> None:
    with suppress(BrokenPipeError):
        console.print(f"backtalk: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
