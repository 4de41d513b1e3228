"""The port to language models: what a handler may ask, and what stands behind it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from backtalk.wire.errors import BacktalkError


@dataclass(frozen=True, slots=True)
class Completion:
    """A complete, paid answer of an endpoint: the ChatCompletion as it came, with at least one choice."""

    body: dict[str, Any]

    @property
    def choices(self) -> list[dict[str, Any]]:
        return self.body["choices"]  # type: ignore[no-any-return]

    @property
    def usage(self) -> dict[str, Any]:
        return self.body.get("usage") or {}


class Listener(Protocol):
    """Hears a completion while it is written."""

    def begin(self) -> None:
        """A try starts; what was heard before does not count any more."""

    def hear(self, chunk: dict[str, Any], /) -> None:
        """One chunk, as the endpoint sent it."""


class Model(Protocol):
    """What a handler may ask of language models. Raises Refused, Unavailable or Stopped."""

    def check(self, endpoint: str) -> None:
        """Raise Refused unless the endpoint is configured."""

    async def complete(
        self, endpoint: str, body: Mapping[str, Any], listener: Listener | None = None, *, place: str
    ) -> Completion:
        """Send a chat-completions body and return the completion, the same whether somebody listens or not.

        `place` tells what the call is for; no two calls of one message have the same.
        """

    def over(self, waited: str) -> BacktalkError | None:
        """Return what ends the message, where its time is up or the worker stops; `waited` says what was not done."""


class Adapter(Protocol):
    """What stands behind the views: an endpoint with its gate and its retries."""

    @property
    def closed(self) -> bool:
        """Whether no endpoint takes calls for now."""

    def check(self, endpoint: str) -> None: ...

    async def complete(
        self, endpoint: str, body: Mapping[str, Any], owner: Hashable, listener: Listener | None = None
    ) -> Completion: ...
