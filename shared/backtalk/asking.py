"""What all our own questions to models have in common: fences around what others wrote, and replies without thoughts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

Fence: TypeAlias = Callable[[str, str], str]

# a reply that ends in thought has no closing tag
_THOUGHT: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def boundary_of(texts: Iterable[str]) -> str:
    """Return a boundary that none of the texts contains, the same one for the same texts."""
    everything = "\n".join(texts)
    boundary = hashlib.sha256(everything.encode()).hexdigest()[:12]
    while boundary in everything:
        boundary = hashlib.sha256(boundary.encode()).hexdigest()[:12]
    return boundary


def fences(boundary: str) -> Fence:
    """Return what sets a text apart: `fence(kind, text)`."""

    def fence(kind: str, text: str) -> str:
        return f'<fence-{boundary} kind="{kind}">\n{text}\n</fence-{boundary}>'

    return fence


def aloud(reply: str) -> str:
    """Return a reply without the thoughts that some models write before it."""
    # some servers leave the opening tag out
    return _THOUGHT.sub("", reply).rpartition("</think>")[2].strip()
