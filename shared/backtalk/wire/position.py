"""Where an operation reads a variable."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """A JSON-pointer path inside an operation, and the sample where a list of ids is read."""

    path: str
    sample: int | None
    variable: str
