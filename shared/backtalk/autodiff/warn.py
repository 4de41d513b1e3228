"""The one warning of this package, told where the program stands that caused it."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Final

_OURS: Final = str(Path(__file__).parents[1])


class PartialWarning(UserWarning):
    """Some of what was asked for could not be done; the rest is there."""


def warn(message: str) -> None:
    """Warn of the line of the program that called, however deep in here something went wrong."""
    # as skip_file_prefixes does from Python 3.12 on
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, PartialWarning, stacklevel=level)
