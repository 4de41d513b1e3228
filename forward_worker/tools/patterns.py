"""What a call looks like in a text before anything of it is decoded: the token, and fences of backticks around it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# no language has a longer name, and a fence without an end would be searched again for every piece
_FENCE: Final = r"```[\w+-]{0,32}"
BEFORE_VALUE: Final = re.compile(rf"\s*(?P<fence>{_FENCE}\s*)?")
FENCE_END: Final = re.compile(r"\s*```[ \t]*(?=\s|\Z)")
FENCE_END_BEGUN: Final = re.compile(r"\s*(?:`{0,2}|```[ \t]*)\Z")


def fences_after(fences: int, ticks: int, text: str) -> tuple[int, int]:
    """Return how many fences there are after more text, and how many backticks at its end belong to none."""
    text = "`" * ticks + text
    return fences + text.count("```"), (len(text) - len(text.rstrip("`"))) % 3


@lru_cache(maxsize=64)
def patterns_of(token: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what the beginning of a call looks like, and what may be one when more has come.

    White space is matched from the beginning of a run only, or a long run would be tried from everywhere in it.
    """
    begun = ""
    for letter in reversed(token[:-1]):
        begun = f"{re.escape(letter)}(?:{begun})?" if begun else re.escape(letter)
    begun = f"(?:{begun})?" if begun else ""
    opening = rf"(?<!\s)\s*(?P<fence>{_FENCE}\s*)?{re.escape(token)}"
    unfinished = rf"(?<!\s)\s*(?:`{{1,2}}|(?:{_FENCE}\s*)?{begun})\Z"
    return re.compile(opening), re.compile(unfinished)
