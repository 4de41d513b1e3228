"""The view as tables for a terminal. Names of models come from senders: nothing of them steers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from backtalk.operate.contents import printable
from backtalk.operate.lines import ModelLine, QueueLine, TroubleLine, View, WorkerLine

# what a table takes besides its rows, and what is always there
_HEAD_ROWS: Final = 2
_LEAST_ROWS: Final = 3
_TEXTS: Final = ("role", "state", "where", "code")
_UNKNOWN: Final = "–"
_BAD_SHARE: Final = 0.05
_SLOW_LOOP_SECONDS: Final = 0.25


def shown(view: View, *, height: int | None = None) -> RenderableType:
    """Return the tables; with a height in lines, what matters least is left out, and counted."""
    queues = [one for one in view.queues if one.there is not None]
    rows = (
        [_queue(view, one) for one in queues if height is None or _matters(one, view.namespace)],
        [_worker(one) for one in _ordered(view.workers)],
        [_model(one) for one in view.models],
        [_trouble(one) for one in view.troubles],
    )
    most = _shares([len(one) for one in rows], height, len(view.notes))
    tables = (
        _table(("queue", "ready", "unacked", "in/s", "out/s", "consumers"), rows[0], most[0], "queues"),
        _table(
            ("worker", "role", "state", "busy", "jobs/s", "failed", "waited", "lag"),
            rows[1],
            most[1],
            "workers",
        ),
        _table(
            ("model", "req/s", "busy", "p50", "p95", "tok/s in", "out", "tokens in", "out", "USD", "USD/h"),
            rows[2],
            most[2],
            "models",
        ),
        _table(("trouble", "where", "code", "count", "a minute"), rows[3], most[3], "kinds of trouble"),
    )
    notes = [Text(printable(note), "yellow") for note in view.notes]
    return Group(
        _headline(view),
        *(one for table in tables if table for one in ("", table)),
        *([""] if notes else []),
        *notes,
    )


def _shares(wanted: Sequence[int], height: int | None, notes: int) -> list[int]:
    """Return how many rows each table may have: the longest gives way first, and the queues last."""
    most = list(wanted)
    if height is None:
        return most
    # a note may take two lines
    room = height - 1 - 2 * notes - bool(notes) - _HEAD_ROWS * sum(1 for one in wanted if one)
    while sum(most) > room and max(most) > _LEAST_ROWS:
        longest = max(most[1:])
        most[most.index(longest, 1) if longest > _LEAST_ROWS else 0] -= 1
    return most


def _headline(view: View) -> Text:
    known = [one.cost_usd for one in view.models if one.cost_usd is not None]
    hourly = [one.usd_per_hour for one in view.models if one.usd_per_hour is not None]
    told = [view.namespace, datetime.now(UTC).strftime("%H:%M:%S UTC")]
    if view.seconds and view.workers:
        told.append(f"rates of the last {view.seconds:.0f} s")
    if known:
        more = " and models of unknown price" if len(known) < len(view.models) else ""
        told.append(f"{_dollars(sum(known))} USD{more}, {_dollars(sum(hourly))} an hour")
    return Text(printable("  ·  ".join(told)), "bold", no_wrap=True, overflow="ellipsis")


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[Text]], most: int, what: str
) -> RenderableType | None:
    if not rows:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for at, column in enumerate(columns):
        text = at == 0 or column in _TEXTS
        # half a number is another number: where it is narrow, texts are cut, and stay on their line
        least = None if text else max([len(column), *(len(row[at].plain) for row in rows if at < len(row))])
        table.add_column(column, justify="left" if text else "right", no_wrap=not text, min_width=least)
    cut = most < len(rows)
    for row in rows[: most - 1 if cut else most]:
        table.add_row(*row)
    if cut:
        table.add_row(Text(f"… {len(rows) - most + 1} more {what}", "dim"))
    return table


def _matters(one: QueueLine, namespace: str) -> bool:
    """Tell a queue that is worth a line when it is empty: rungs, suspects and the crashed are not."""
    name = one.name.removeprefix(f"{namespace}.")
    quiet = ".retry." in name or name.endswith((".crashed", ".suspect"))
    return not quiet or bool(one.ready or one.unacked) or one.there is False


def _queue(view: View, one: QueueLine) -> Sequence[Text]:
    name = one.name.removeprefix(f"{view.namespace}.")
    work = name in ("forward", "backward")
    if one.there is False:
        return (_text(name), Text("missing", "red"))
    idle = work and one.consumers == 0
    left_over = bool(one.ready) and name.endswith(("dead", "unrouted", "suspect", "crashed"))
    return (
        _text(name, "bold" if work else ""),
        _text(_number(one.ready), "red" if left_over else ""),
        _text(_number(one.unacked)),
        _text(_rate(one.in_rate)),
        _text(_rate(one.out_rate)),
        _text(_number(one.consumers), "red" if idle else ""),
    )


def _ordered(workers: Iterable[WorkerLine]) -> list[WorkerLine]:
    """Return those first that somebody should look at."""
    return sorted(workers, key=lambda one: (one.problem is None, one.up))


def _worker(one: WorkerLine) -> Sequence[Text]:
    if one.problem is not None:
        return (_text(one.worker), Text(), _text(one.problem, "red"))
    return (
        _text(one.worker),
        _text(one.role),
        Text("consuming", "green") if one.up else Text("not consuming", "yellow"),
        _text(_number(one.in_flight)),
        _text(_rate(one.job_rate)),
        _text(_share(one.failed), "red" if (one.failed or 0) > _BAD_SHARE else ""),
        _text(_seconds(one.wait_p95)),
        _text(_seconds(one.lag), "red" if (one.lag or 0) > _SLOW_LOOP_SECONDS else ""),
    )


def _model(one: ModelLine) -> Sequence[Text]:
    name = _text(f"{one.endpoint} {one.model}".strip())
    if one.closed:
        name.append(f" closed on {one.closed}", "red")
    return (
        name,
        _text(_rate(one.request_rate)),
        _text(_number(one.in_flight)),
        _text(_seconds(one.p50)),
        _text(_seconds(one.p95)),
        _text(_rate(one.input_rate)),
        _text(_rate(one.output_rate)),
        _text(_short(one.input)),
        _text(_short(one.output)),
        _text("unknown" if one.cost_usd is None else _dollars(one.cost_usd)),
        _text(_UNKNOWN if one.usd_per_hour is None else _dollars(one.usd_per_hour)),
    )


def _trouble(one: TroubleLine) -> Sequence[Text]:
    return (
        _text(one.what),
        _text(one.where),
        _text(one.code),
        _text(_number(one.count)),
        _text(_rate(one.a_minute), "red" if one.a_minute else ""),
    )


def _text(told: str, style: str = "") -> Text:
    return Text(printable(told).replace("\n", "\\n"), style, no_wrap=True, overflow="ellipsis")


def _number(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


def _short(value: int) -> str:
    """Return a large number in thousands or millions."""
    for unit, name in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if value >= unit:
            return f"{value / unit:.1f}{name}"
    return str(value)


def _rate(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1%}"


def _seconds(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.1f}s"


def _dollars(value: float) -> str:
    return f"{value:,.4f}" if value < 1 else f"{value:,.2f}"
