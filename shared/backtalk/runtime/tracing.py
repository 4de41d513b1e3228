"""Traces as a worker sees them: what it begins a span for, and what it tells of it. Here is the port, and none.

Nothing here is given what a message says: bodies are for reading parameters out of them, never for keeping.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol, TypeAlias

from backtalk.runtime.openai_client import Endpoint
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.answer import Answer

# tells the completion that a call came to
Told: TypeAlias = Callable[[Mapping[str, Any]], None]
Headers: TypeAlias = Mapping[str, str]

FLUSH_SECONDS: Final = 2.0
# any of them asks for traces, as OpenTelemetry's specification has it
_ASKING: Final = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


class Tracing(Protocol):
    """The spans of a worker. What is inside of a `with` block is the span's; nothing here raises."""

    def processing(self, delivery: Delivery) -> AbstractContextManager[object]:
        """Begin the span of a delivery, in the trace of its sender."""

    def ids(self) -> Mapping[str, str]:
        """Return what the log lines of this delivery are marked with."""

    def here(self) -> str | None:
        """Return where we are, for another delivery of the same work to refer to."""

    def joined(self, there: str | None) -> None:
        """Note that the work of this delivery is done elsewhere."""

    def settled(self, how: str, answer: Answer | None = None) -> None:
        """Note what became of a delivery, which ends its span."""

    def calling(
        self, endpoint: str, body: Mapping[str, Any], place: str, *, streams: bool
    ) -> AbstractContextManager[Told]:
        """Begin the span of a model call, with all its tries."""

    def posting(self, endpoint: str, resent: int) -> AbstractContextManager[object]:
        """Begin the span of one try, which comes after so many others."""

    def headers(self) -> Headers:
        """Return what an endpoint is told of the trace."""

    def sending(self, address: str, to: Envelope) -> AbstractContextManager[Headers]:
        """Begin the span of an answer, and return the headers that it bears."""

    def close(self) -> None:
        """Export what is left, within two seconds."""


class _NoTracing:
    """Traces nothing, and passes on what a sender says of its own trace."""

    def __init__(self) -> None:
        self._span = nullcontext()
        self._call = nullcontext[Told](lambda _: None)
        self._none: Headers = {}

    def processing(self, _: Delivery) -> AbstractContextManager[object]:
        return self._span

    def ids(self) -> Mapping[str, str]:
        return self._none

    def here(self) -> None:
        return None

    def joined(self, _: str | None) -> None:
        return

    def settled(self, _: str, __: Answer | None = None) -> None:
        return

    def calling(
        self,
        _: str,
        __: Mapping[str, Any],
        ___: str,
        *,
        streams: bool,  # noqa: ARG002
    ) -> AbstractContextManager[Told]:
        return self._call

    def posting(self, _: str, __: int) -> AbstractContextManager[object]:
        return self._span

    def headers(self) -> Headers:
        return self._none

    def sending(self, _: str, to: Envelope) -> AbstractContextManager[Headers]:
        return nullcontext(to.trace)

    def close(self) -> None:
        return


NO_TRACING: Final[Tracing] = _NoTracing()


def tracing_for(
    role: str, endpoints: Iterable[Endpoint], environment: Mapping[str, str] = os.environ
) -> Tracing:
    """Return the tracing that the OTEL_ variables ask for, none where they do not. Raises ValueError with the remedy."""
    asked = [name for name in _ASKING if environment.get(name)]
    if not asked or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NO_TRACING
    if environment.get("OTEL_TRACES_EXPORTER") == "none":
        return NO_TRACING
    try:
        from backtalk.runtime.otel_tracing import traced  # noqa: PLC0415  only tracing needs what it imports
    except ImportError as error:
        raise ValueError(
            f"{asked[0]}: asks for traces, which need OpenTelemetry ({error}); install backtalk[otel], or unset it"
        ) from error
    return traced(role, endpoints, environment)
