"""A file given out as it is by now, while somebody else may go on writing it."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

_PIECE: Final = 1 << 20


def copy(source: Path, length: int, target: Path | None) -> None:
    """Give out so many bytes of a file: to the standard output, or to a file, whole or not at all."""
    with source.open("rb") if source.exists() else BytesIO() as file:
        if target is None:
            _pour(file, sys.stdout.buffer, length)
        elif target.resolve() != source:
            part = target.with_name(f"{target.name}.part")
            with part.open("wb") as begun:
                _pour(file, begun, length)
            part.replace(target)


def _pour(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length and (piece := source.read(min(length, _PIECE))):
        target.write(piece)
        length -= len(piece)
