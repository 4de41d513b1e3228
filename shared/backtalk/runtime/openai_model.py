"""The endpoints as a worker's models: each behind its fair gate, and the owner of the retries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self

from pydantic_core import to_json

from backtalk.runtime.answered import BadBody
from backtalk.runtime.gate import FairGate
from backtalk.runtime.model import Completion, Listener
from backtalk.runtime.openai_client import Endpoint, OpenAIClient, late
from backtalk.wire.errors import Unavailable, invalid

ATTEMPTS: Final = 3
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0


class OpenAIModel:
    """All configured endpoints, each behind its own fair gate."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._gates = {name: FairGate(endpoint.concurrency) for name, endpoint in endpoints.items()}
        self._clients: dict[str, OpenAIClient] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for name, endpoint in self._endpoints.items():
            self._clients[name] = await self._open.enter_async_context(OpenAIClient(endpoint))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    def check(self, endpoint: str) -> None:
        if endpoint not in self._endpoints:
            known = ", ".join(sorted(self._endpoints))
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
        content = to_json(body if listener is None else _streaming(body))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return Completion(await self._once(endpoint, content, owner, listener))
            except BadBody as error:
                if attempt > 1:
                    raise error.rejected() from error
                await asyncio.sleep(_pause(attempt))
            except Unavailable as error:
                if attempt == ATTEMPTS or error.retry_after > LONGEST_PAUSE:
                    raise
                # outside the gate, so that others go on meanwhile
                await asyncio.sleep(error.retry_after or _pause(attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(
        self, endpoint: str, content: bytes, owner: Hashable, listener: Listener | None
    ) -> dict[str, Any]:
        gate, client = self._gates[endpoint], self._clients[endpoint]
        await gate.enter(owner)
        try:
            if listener is None:
                return await client.whole(content)
            # the SDK's own timeout starts anew with every chunk
            async with asyncio.timeout(self._endpoints[endpoint].timeout):
                return await client.streamed(content, listener)
        except TimeoutError as error:
            raise late(endpoint) from error
        finally:
            gate.leave()


def _streaming(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that asks for a stream, and for the usage at its end."""
    given = body.get("stream_options")
    options = given if isinstance(given, Mapping) else {}
    return {**body, "stream": True, "stream_options": {**options, "include_usage": True}}


def _pause(attempt: int) -> float:
    return float(min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.0))  # noqa: S311
