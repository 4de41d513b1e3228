"""Untrusted words inside lines of our own."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

MAX_QUOTED: Final = 300


@lru_cache(maxsize=1024)
def quote(text: str) -> str:
    """Return untrusted words fit to stand in a line of ours: short, and without any kind of line break."""
    shown = text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"
    return json.dumps(" ".join(shown.splitlines()), ensure_ascii=False)
