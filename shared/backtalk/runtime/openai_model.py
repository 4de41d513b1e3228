"""The endpoints as a worker's models, and the owner of the retries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable, Mapping
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Final, Self

from pydantic_core import to_json

from backtalk.runtime.answered import BadBody
from backtalk.runtime.key import REFUSALS
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.model import Completion, Listener
from backtalk.runtime.openai_client import Endpoint
from backtalk.runtime.route import TOO_MANY, Route
from backtalk.runtime.tracing import NO_TRACING, Tracing
from backtalk.runtime.traffic import LONGEST_PAUSE
from backtalk.wire.errors import Closed, Refused, Unavailable, invalid

ATTEMPTS: Final = 3
# an endpoint that is busy, not broken: with fewer calls at once their turn comes
BUSY_ATTEMPTS: Final = 6
FIRST_PAUSE: Final = 0.5


class OpenAIModel:
    """All configured endpoints; `changed` is called whenever one of them closes or opens."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        changed: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        counts = metrics or Metrics("")
        self._routes = {
            name: Route(endpoint, changed, counts, tracing) for name, endpoint in endpoints.items()
        }
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for route in self._routes.values():
            await self._open.enter_async_context(route)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    @property
    def closed(self) -> bool:
        """Whether no endpoint takes calls for now."""
        return all(route.closed for route in self._routes.values())

    def check(self, endpoint: str) -> None:
        if endpoint not in self._routes:
            known = ", ".join(sorted(self._routes))
            raise invalid(
                "backtalk/endpoint",
                f"{endpoint!r} is not configured at this worker; known are {known}. "
                "Name one of them, or add it to BACKTALK_ENDPOINTS",
            )

    async def complete(
        self, endpoint: str, body: Mapping[str, Any], owner: Hashable, listener: Listener | None = None
    ) -> Completion:
        """Send the body, again where that may help, and return a completion with at least one choice."""
        self.check(endpoint)
        route, model = self._routes[endpoint], body["model"]
        content = to_json(body if listener is None else _streaming(body))
        for attempt in count(1):
            try:
                return Completion(await route.once(content, model, owner, listener, resent=attempt - 1))
            except BadBody as error:
                if attempt > 1:
                    raise error.rejected() from error
                route.metrics.retried(error)
                await asyncio.sleep(_pause(attempt))
            except Refused as error:
                # the key may have been taken again since; a redirect or a bad body stays what it is
                if attempt > 1 or error.error.details.get("status") not in REFUSALS:
                    raise
                route.metrics.retried(error)
            except Unavailable as error:
                if isinstance(error, Closed) or attempt >= _most(error) or error.retry_after > LONGEST_PAUSE:
                    raise
                route.metrics.retried(error)
                # outside the gate, so that others go on meanwhile
                await asyncio.sleep(error.retry_after or _pause(attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")


def _most(error: Unavailable) -> int:
    return BUSY_ATTEMPTS if error.error.details.get("status") == TOO_MANY else ATTEMPTS


def _streaming(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that asks for a stream, and for the usage at its end."""
    given = body.get("stream_options")
    options = given if isinstance(given, Mapping) else {}
    return {**body, "stream": True, "stream_options": {**options, "include_usage": True}}


def _pause(attempt: int) -> float:
    return float(min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.0))  # noqa: S311
