"""What is known of a dead letter without its body, and which of them somebody means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from backtalk.transport.envelope import ATTEMPT, REASON, Envelope
from backtalk.transport.topology import ROLES
from backtalk.wire.codec import unpack
from backtalk.wire.errors import Refused
from backtalk.wire.identity import request_id, work_key

REASON_TEXT: Final = f"{REASON}-text"
# where a role would stand, of the answers that nobody took
RESULTS: Final = "results"
# what the filing of a letter added, and what its former life cost: a retried one starts anew
_SHED: Final = frozenset({REASON, REASON_TEXT, ATTEMPT})


@dataclass(frozen=True, slots=True)
class Letter:
    """A message in a dead queue, or an answer that nobody took; `sent` is when its sender sent it, in seconds since the epoch.

    `position` counts from 1, the oldest, at the moment of looking. `copy` tells letters with one id apart.
    """

    role: str
    position: int
    id: str
    sent: float | None
    code: str | None
    text: str | None
    type: str | None
    size: int
    attempt: int
    copy: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant: of these roles, with this code, with one of these ids. None means any."""

    roles: tuple[str, ...] = ROLES
    code: str | None = None
    ids: frozenset[str] | None = None

    def takes(self, letter: Letter) -> bool:
        return (
            letter.role in self.roles
            and self.code in (None, letter.code)
            and (self.ids is None or letter.id in self.ids)
        )


def letter(envelope: Envelope, role: str, position: int) -> Letter:
    """Return what is known of a message in a dead queue.

    One without an id has the id that the worker would give it: it names the same letter wherever it stands.
    """
    id = identity(envelope)
    return Letter(
        role=role,
        position=position,
        id=id,
        sent=envelope.timestamp,
        code=_text(envelope.headers, REASON),
        text=_text(envelope.headers, REASON_TEXT),
        type=envelope.type,
        size=len(envelope.body),
        attempt=envelope.attempt,
        copy=work_key(id, envelope.body),
    )


def identity(envelope: Envelope) -> str:
    """Return the id of a message as the worker that takes it knows it."""
    if envelope.message_id:
        return envelope.message_id
    try:
        body = unpack(envelope.body, envelope.content_encoding)
    except Refused:
        body = envelope.body
    return request_id(None, body, envelope.reply_to, envelope.correlation_id)


def revived(envelope: Envelope) -> Envelope:
    """Return a dead letter as a message to be worked on: its reason and its attempts are forgotten."""
    again = envelope.republished(identity(envelope))
    return replace(again, headers={name: value for name, value in again.headers.items() if name not in _SHED})


def _text(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) else None
