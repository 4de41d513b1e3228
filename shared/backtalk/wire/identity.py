"""Ids that derive from what they name, so that a repeated delivery makes the same ones again."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Protocol

_ANSWERS = uuid.UUID("5b1ad0c5-5a3a-5c0e-9d5c-0f5d2d6c8f7a").bytes


class Pieces(Protocol):
    """A body that comes in pieces, as often as it is asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


def request_id(
    message_id: str | None, body: bytes | Pieces, reply_to: str | None, correlation_id: str | None
) -> str:
    """Return the id of a request: its message id, else the hash of all that tells it from others."""
    return message_id or _digest(body, (reply_to or "").encode(), (correlation_id or "").encode())[:32]


def work_key(id: str, body: bytes | Pieces) -> str:
    """Return what makes two deliveries the same work: id and uncompressed body."""
    return _digest(id.encode(), body)


def derive(key: str, path: str) -> str:
    """Return the id of something that a piece of work makes, e.g. `outputs/0`."""
    return hashlib.sha256(f"{key}\n{path}".encode()).hexdigest()[:32]


def answer_id(key: str, reply_to: str | None) -> str:
    """Return the message id of an answer: the same for every repeat of it."""
    # uuid.uuid5 by hand: the class costs ten times the hash, on every answer
    digest = hashlib.sha1(_ANSWERS + f"{key}\n{reply_to or ''}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def _digest(*parts: bytes | Pieces) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # the length keeps ("a", "bc") apart from ("ab", "c")
        digest.update(len(part).to_bytes(8, "big"))
        for piece in (part,) if isinstance(part, bytes) else part:
            digest.update(piece)
    return digest.hexdigest()
