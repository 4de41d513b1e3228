"""The way to one endpoint: its client, how many calls it takes, and whether it takes the worker's key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, Self

from backtalk.runtime.key import Key
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.model import Listener
from backtalk.runtime.openai_client import Endpoint, OpenAIClient, late
from backtalk.runtime.telemetry import log
from backtalk.runtime.tracing import NO_TRACING, Tracing
from backtalk.runtime.traffic import Traffic
from backtalk.transport.ending import ended
from backtalk.wire.errors import Closed, Code, Refused, Unavailable

TOO_MANY: Final = 429
FIRST_PROBE_SECONDS: Final = 5.0
LONGEST_PROBE_SECONDS: Final = 60.0


class Route:
    """Asks one endpoint once, when it is the caller's turn. Raises what the client raises, and Closed."""

    def __init__(
        self,
        endpoint: Endpoint,
        changed: Callable[[], None],
        metrics: Metrics,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._name = endpoint.name
        self._timeout = endpoint.timeout
        self._tracing = tracing
        self._client = OpenAIClient(endpoint, tracing.headers)
        self._traffic = Traffic(endpoint.concurrency, changed)
        self._key = Key(self._client.probe)
        self._probing: asyncio.Task[None] | None = None
        self.metrics = metrics.endpoint(
            endpoint.name, closed=lambda: self.closed, in_flight=lambda: self._traffic.inside
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._probing is not None:
            await ended(self._probing)
        await self._client.__aexit__(*exc)

    @property
    def closed(self) -> bool:
        return self._traffic.closed

    async def once(
        self, content: bytes, model: str, owner: Hashable, listener: Listener | None, *, resent: int = 0
    ) -> dict[str, Any]:
        """Send a body when the endpoint has a place for it, and return the completion.

        It was `resent` so many times before.
        """
        entered = await self._traffic.enter(owner)
        try:
            with self._tracing.posting(self._name, resent):
                completion = await self._measured(content, model, listener)
        except Unavailable as error:
            if error.error.details.get("status") == TOO_MANY:
                self._limited(owner, entered, error.retry_after)
            raise
        except Refused as error:
            if await self._key.blamed(error, model):
                self._refused(error, model)
                raise self._no_key() from error
            raise
        finally:
            self._traffic.leave()
        self._traffic.succeeded()
        self._key.worked(model)
        return completion

    async def _measured(self, content: bytes, model: str, listener: Listener | None) -> dict[str, Any]:
        began = time.monotonic()
        try:
            completion = await self._asked(content, listener)
        except BaseException as error:
            self.metrics.failed(model, error, time.monotonic() - began)
            raise
        self.metrics.answered(model, completion.get("usage"), time.monotonic() - began)
        return completion

    async def _asked(self, content: bytes, listener: Listener | None) -> dict[str, Any]:
        try:
            if listener is None:
                return await self._client.whole(content)
            # the SDK's own timeout starts anew with every chunk
            async with asyncio.timeout(self._timeout):
                return await self._client.streamed(content, listener)
        except TimeoutError as error:
            raise late(self._name) from error

    def _limited(self, owner: Hashable, entered: float, retry_after: float) -> None:
        def told() -> Closed:
            return Closed(
                Code.UPSTREAM_UNAVAILABLE,
                f"endpoint {self._name!r} has too much to do (429) and asked to wait {retry_after:g} s",
                retry_after=retry_after,
                endpoint=self._name,
            )

        self._traffic.limited(owner, entered, retry_after, told)

    def _refused(self, error: Refused, model: str) -> None:
        """Take no calls for this endpoint until it takes our key again."""
        if self._probing is not None:
            return
        status = error.error.details["status"]
        log.error(
            "endpoint refuses the key",
            endpoint=self._name,
            status=status,
            remedy="check the key and what it is allowed; calls go on by themselves when it is taken again",
        )
        self._traffic.close(self._no_key)
        self._probing = asyncio.get_running_loop().create_task(self._probed(status, model))

    async def _probed(self, status: int, model: str) -> None:
        pause = FIRST_PROBE_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                if not await self._key.refused(status, model):
                    break
            except Exception:  # noqa: BLE001  an endpoint may do anything, and nobody else opens it again
                log.exception("probe failed", endpoint=self._name)
            pause = min(2 * pause, LONGEST_PROBE_SECONDS)
        self._probing = None
        log.info("endpoint takes the key again", endpoint=self._name)
        self._traffic.open()

    def _no_key(self) -> Closed:
        return Closed(
            Code.UPSTREAM_UNAVAILABLE,
            f"endpoint {self._name!r} refuses the worker's key; its operator has to check it",
            retry_after=LONGEST_PROBE_SECONDS / 2,
            endpoint=self._name,
        )
