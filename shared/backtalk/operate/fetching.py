"""An HTTP GET of something small, for verbs that look: nobody is followed elsewhere, and no answer is endless."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

MOST_BYTES: Final = 32 * 1024 * 1024
_PIECE: Final = 64 * 1024


def fetch(url: str, *, seconds: float, authorization: str | None = None, proxies: bool = True) -> bytes:
    """Return what an http(s) URL answers, 32 MiB of it at most. It may take `seconds` to begin, and as long to end.

    Without `proxies` the environment's are not used. Raises URLError, HTTPError among them, HTTPException and OSError.
    """
    headers = {"Authorization": authorization} if authorization else {}
    request = Request(url, headers=headers)  # noqa: S310  callers let http and https pass alone
    opener = build_opener(_StayHere) if proxies else build_opener(_StayHere, ProxyHandler({}))
    with opener.open(request, timeout=seconds) as response:
        # the timeout starts anew with every byte
        end = time.monotonic() + seconds
        told = bytearray()
        while len(told) < MOST_BYTES and (piece := response.read1(_PIECE)):
            told += piece
            if time.monotonic() > end:
                raise TimeoutError("timed out")
    return bytes(told)


class _StayHere(HTTPRedirectHandler):
    """Follow nobody: the password is for this server alone."""

    def redirect_request(self, *_: Any) -> None:
        return None
