"""Requests that their senders want no more."""

from __future__ import annotations

from typing import Final

from backtalk.wire.errors import Code, Refused

REMEMBERED: Final = 10_000


class Cancelled:
    """The ids of the last 10,000 of them that this worker heard of."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def add(self, id: str) -> None:
        self._ids.pop(id, None)
        self._ids[id] = None
        if len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def __contains__(self, id: str) -> bool:
        return id in self._ids


def cancelled() -> Refused:
    """Return what a cancelled request is answered with."""
    refused = Refused(
        Code.CANCELLED, "cancelled by its sender; to have it done after all, send it under another id"
    )
    # one that a worker's stop cancelled is welcome again under its id, this one is not
    refused.error = refused.error.model_copy(update={"retryable": False})
    return refused
