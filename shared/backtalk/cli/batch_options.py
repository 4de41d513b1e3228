"""The options that the verbs of `backtalk batch` have in common."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# four digits of days are more than anybody waits, and less than the end of the calendar
_TIME: Final = re.compile(r"([0-9]{1,8}s|[0-9]{1,6}m|[0-9]{1,5}h|[0-9]{1,4}d)")

Id: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The id of the batch, or enough of its beginning.")
]
Follow: TypeAlias = Annotated[bool, typer.Option("--watch", help="Stay until the batch has ended.")]
StateFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="BACKTALK_BATCHES",
        help="The folder of all batches; ~/.local/state/backtalk/batches if not told.",
        file_okay=False,
    ),
]


def folder_of(state: Path | None) -> Path:
    """Return where batches lie: as told, or by the XDG base directory specification."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return state or Path(home) / "backtalk" / "batches"


def seconds(text: str) -> float:
    """Return the time that `24h` says; raises BadParameter."""
    told = _TIME.fullmatch(text.strip())
    if told is None or not int(told[1][:-1]):
        raise typer.BadParameter(f"{text!r} is no time; write 90s, 30m, 24h or 7d", param_hint="--expires")
    return float(int(told[1][:-1]) * _UNITS[told[1][-1]])
