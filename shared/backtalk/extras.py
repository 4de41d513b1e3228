"""What an extra brings, told by name where it is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import what belongs to an extra; where it was not installed, end the process and say how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is missing; pip install 'backtalk[{extra}]'")
