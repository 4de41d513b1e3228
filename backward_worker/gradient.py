"""The gradient of production: a text. Empty means nothing to say; a failure is never text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backtalk.wire.feedback import How


@dataclass(frozen=True, slots=True)
class TextGradient:
    """A criticism and how it came about; `source` is who gave it, where it is feedback itself."""

    text: str
    how: How
    source: str | None = None


EMPTY: Final = TextGradient("", "empty")
