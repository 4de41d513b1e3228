"""The gradient of production: a text. Empty means nothing to say; a failure is never text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from backtalk.wire.feedback import How


@dataclass(frozen=True, slots=True)
class Said:
    """A criticism, and what it was said of; None where that is the text itself, in another batch."""

    text: str
    of: str | None


class Root(NamedTuple):
    """The feedback that a gradient goes back to, by its place in the message, and which item of a batch it was said of.

    Its id is the sender's, who may give one twice.
    """

    feedback: int
    item: int | None


@dataclass(frozen=True, slots=True)
class TextGradient:
    """A criticism and how it came about; `source` is who gave it, where it is feedback itself.

    `said` is what it consists of, where it passed through steps that no model takes. `depth` is how many questions were
    asked one after another to get here.
    """

    text: str
    how: How
    source: str | None = None
    said: tuple[Said, ...] = ()
    depth: int = field(default=0, compare=False)
    roots: tuple[Root, ...] = field(default=(), compare=False)

    @property
    def criticises(self) -> bool:
        """Whether something should change, told in words or not."""
        return self.how != EMPTY.how


EMPTY: Final = TextGradient("", "empty")
# criticism without words, which only an operation that explains itself is given; EMPTY is none at all
UNSAID: Final = TextGradient("", "copied")
