"""The gradient of production: a text. Empty means nothing to say; a failure is never text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backtalk.wire.feedback import How


@dataclass(frozen=True, slots=True)
class Said:
    """A criticism, and what it was said of; None where that is the text itself, in another batch."""

    text: str
    of: str | None


@dataclass(frozen=True, slots=True)
class TextGradient:
    """A criticism and how it came about; `source` is who gave it, where it is feedback itself.

    `said` is what it consists of, where it passed through steps that no model takes.
    """

    text: str
    how: How
    source: str | None = None
    said: tuple[Said, ...] = ()

    @property
    def criticises(self) -> bool:
        """Whether something should change, told in words or not."""
        return self.how != EMPTY.how


EMPTY: Final = TextGradient("", "empty")
# criticism without words, which only an operation that explains itself is given; EMPTY is none at all
UNSAID: Final = TextGradient("", "copied")
