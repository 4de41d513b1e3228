"""Untrusted words inside lines of our own."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

from backtalk.wire.base import shortened

MAX_QUOTED: Final = 300


def quote(text: str) -> str:
    """Return untrusted words fit to stand in a line of ours: short, and without any kind of line break."""
    # cut before it is kept: the cache is not for other people's megabytes
    return _quoted(shortened(text, MAX_QUOTED))


@lru_cache(maxsize=1024)
def _quoted(shown: str) -> str:
    return json.dumps(" ".join(shown.splitlines()), ensure_ascii=False)
