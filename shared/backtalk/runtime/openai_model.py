"""The adapter to OpenAI-compatible endpoints: the only module that imports openai, and owner of the retries.

It takes the SDK's fast path (`client.post`, aiohttp transport): a third of the CPU of `chat.completions.create`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import httpx2
import openai
from openai import AsyncOpenAI, DefaultAioHttpClient, Omit, RequestOptions
from pydantic_core import to_json

from backtalk.runtime.answered import MAX_TOLD, BadBody, by_status, checked, completion_of, kind_of
from backtalk.runtime.gate import FairGate
from backtalk.runtime.model import Completion, Listener
from backtalk.runtime.streamed import Assembly, Broken
from backtalk.wire.errors import BacktalkError, Code, Unavailable, invalid

ATTEMPTS: Final = 3
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
_END: Final = object()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A named OpenAI-compatible server; `timeout` is for one call, in seconds."""

    name: str
    base_url: str | None
    api_key: str | None
    concurrency: int
    timeout: float


class OpenAIModel:
    """All configured endpoints, each behind its own fair gate."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._gates = {name: FairGate(endpoint.concurrency) for name, endpoint in endpoints.items()}
        self._options = {name: _options(endpoint.timeout) for name, endpoint in endpoints.items()}
        self._clients: dict[str, AsyncOpenAI] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for name, endpoint in self._endpoints.items():
            self._clients[name] = await self._open.enter_async_context(_client(endpoint))
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
        gate = self._gates[endpoint]
        await gate.enter(owner)
        try:
            if listener is None:
                return await self._whole(endpoint, content)
            # the SDK's own timeout starts anew with every chunk
            async with asyncio.timeout(self._endpoints[endpoint].timeout):
                return await self._streamed(endpoint, content, listener)
        except TimeoutError as error:
            raise _late(endpoint) from error
        # httpx2's own comes through where the body of an error status breaks off
        except (openai.OpenAIError, httpx2.RequestError) as error:
            raise classify(error, endpoint) from error
        finally:
            gate.leave()

    async def _whole(self, endpoint: str, content: bytes) -> dict[str, Any]:
        client = self._clients[endpoint]
        response = await client.post(
            _url(client), content=content, cast_to=httpx2.Response, options=self._options[endpoint]
        )
        return completion_of(response, endpoint)

    async def _streamed(self, endpoint: str, content: bytes, listener: Listener) -> dict[str, Any]:
        listener.begin()
        client = self._clients[endpoint]
        stream = await client.post(
            _url(client),
            content=content,
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
            options=self._options[endpoint],
        )
        async with stream:
            return checked(await _heard(stream, endpoint, listener), endpoint)


async def _heard(stream: openai.AsyncStream[object], endpoint: str, listener: Listener) -> dict[str, Any]:
    """Return the completion that a stream spells, told chunk by chunk."""
    assembly = Assembly()
    try:
        while (chunk := await _next(stream)) is not _END:
            listener.hear(assembly.add(chunk))
        return assembly.whole()
    except Broken as error:
        kind = kind_of(stream.response)
        # some servers stream under a wrong name, so the name alone is no proof
        if not (assembly.begun or kind.startswith("text/event-stream")):
            remedy = "check its base URL, or leave `stream` out"
            raise BadBody(endpoint, f"it does not stream: asked to, it sent {kind}", remedy) from error
        raise Unavailable(
            Code.UPSTREAM_UNAVAILABLE,
            f"endpoint {endpoint!r} did not complete its stream: {error}",
            endpoint=endpoint,
        ) from error


async def _next(stream: openai.AsyncStream[object]) -> object:
    try:
        return await anext(stream, _END)
    except (ValueError, RecursionError) as error:
        raise Broken("an event is not JSON") from error


def _streaming(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that asks for a stream, and for the usage at its end."""
    given = body.get("stream_options")
    options = given if isinstance(given, Mapping) else {}
    return {**body, "stream": True, "stream_options": {**options, "include_usage": True}}


def _url(client: AsyncOpenAI) -> str:
    """Return the whole address: the SDK takes longer to join it than we take to name it."""
    return f"{client.base_url}chat/completions"


class _Client(AsyncOpenAI):
    """The SDK's client, without the eight headers that describe our platform to the endpoint on every call."""

    @cached_property
    def default_headers(self) -> dict[str, str | Omit]:
        headers = super().default_headers
        return {name: value for name, value in headers.items() if not name.startswith("X-Stainless")}


def _options(timeout: float) -> RequestOptions:
    """Return the options of a call. Those that could be left out would be copied from their defaults each time."""
    return {
        # the two headers that the SDK adds later on
        "headers": {"x-stainless-retry-count": Omit(), "x-stainless-read-timeout": Omit()},
        "max_retries": 0,
        "timeout": timeout,
        "security": {"bearer_auth": True},
    }


def _client(endpoint: Endpoint) -> AsyncOpenAI:
    limits = httpx2.Limits(
        max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency
    )
    return _Client(
        base_url=endpoint.base_url,
        # servers without keys still need the header
        api_key=endpoint.api_key or "none",
        max_retries=0,
        timeout=endpoint.timeout,
        http_client=DefaultAioHttpClient(
            limits=limits,
            timeout=endpoint.timeout,
            # a redirect could carry the key somewhere else
            follow_redirects=False,
        ),
    )


def _pause(attempt: int) -> float:
    return float(min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.0))  # noqa: S311


def classify(error: openai.OpenAIError | httpx2.RequestError, endpoint: str) -> BacktalkError:
    """Return what an SDK exception means: by status, since its classes are not complete."""
    if isinstance(error, openai.APITimeoutError) and _timed_out(error):
        return _late(endpoint)
    if isinstance(error, openai.APIStatusError):
        return by_status(error.status_code, error.message, error.code, endpoint, error.response.headers)
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
        return Unavailable(
            Code.UPSTREAM_UNAVAILABLE,
            f"endpoint {endpoint!r} sent an error in its stream: {error.message[:MAX_TOLD]}",
            endpoint=endpoint,
        )
    return Unavailable(
        Code.UPSTREAM_UNAVAILABLE,
        f"endpoint {endpoint!r} cannot be reached ({type(error.__cause__ or error).__name__}); "
        "check that it runs and its base URL",
        endpoint=endpoint,
    )


def _late(endpoint: str) -> Unavailable:
    return Unavailable(
        Code.UPSTREAM_TIMEOUT, f"endpoint {endpoint!r} did not answer in time", endpoint=endpoint
    )


def _timed_out(error: BaseException | None) -> bool:
    """Tell a real timeout: the aiohttp transport calls a refused connection one as well."""
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__
    return False
