"""What is told of a file that a user named."""

from __future__ import annotations

from pathlib import Path


class BadFile(ValueError):
    """Raised when a file cannot be used; the message names file, line and remedy."""


def need_folder(path: Path) -> None:
    """Raise BadFile where the folder is missing in which a file is to be written."""
    if not path.resolve().parent.is_dir():
        raise BadFile(f"{path}: its folder is not there; make it first")
