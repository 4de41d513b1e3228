"""Properties that a sender's library got wrong are read as absent.

pamqp raises on a time beyond the calendar and on text that is no UTF-8. aiormq then closes the connection, the broker
delivers the same message again, and one careless sender stops every worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from pamqp import decode

Decoder: TypeAlias = Callable[[bytes], tuple[int, Any]]


def install() -> None:
    """Let pamqp read such properties; calling it again changes nothing."""
    for kind, length in (("timestamp", _eight), ("shortstr", _after_byte), ("table", _after_integer)):
        decoder = decode.METHODS[kind]
        if not isinstance(decoder, _Lenient):
            decode.METHODS[kind] = _Lenient(decoder, length)


class _Lenient:
    """A decoder that skips what it cannot read; `length` tells how many bytes that is."""

    def __init__(self, decoder: Decoder, length: Callable[[bytes], int]) -> None:
        self._decoder = decoder
        self._length = length

    def __call__(self, value: bytes) -> tuple[int, Any]:
        try:
            return self._decoder(value)
        except Exception:  # noqa: BLE001  a sender chooses what is in there, RecursionError included
            return self._length(value), None


def _eight(_: bytes) -> int:
    return 8


def _after_byte(value: bytes) -> int:
    return 1 + value[0]


def _after_integer(value: bytes) -> int:
    return 4 + int.from_bytes(value[:4], "big")
