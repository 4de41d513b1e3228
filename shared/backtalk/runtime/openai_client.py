"""One OpenAI-compatible endpoint over HTTP: the only module that imports openai.

A whole answer takes the SDK's own HTTP client directly: what the SDK does around a request takes longer than sending it.
Streams take the SDK as a whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI, DefaultAioHttpClient, Omit, RequestOptions

from backtalk.runtime.answered import MAX_TOLD, BadBody, checked, completion_of, kind_of, masked, refusal
from backtalk.runtime.bounded_reading import bounded
from backtalk.runtime.http_probe import HttpProbe
from backtalk.runtime.model import Listener
from backtalk.runtime.streamed import Assembly, Broken
from backtalk.wire.errors import BacktalkError, Code, Unavailable

_END: Final = object()
# the transport hands on what it does not know by another name
_TROUBLE: Final = (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A named OpenAI-compatible server; `timeout` is for one call, in seconds.

    With `traced` it is told of the trace that a call belongs to.
    """

    name: str
    base_url: str | None
    api_key: str | None
    concurrency: int
    timeout: float
    traced: bool = False


class OpenAIClient:
    """Asks one endpoint once. Raises Refused, Unavailable, and BadBody for a 200 that is no completion.

    `trace` returns the headers that tell an endpoint of the trace.
    """

    def __init__(self, endpoint: Endpoint, trace: Callable[[], Mapping[str, str]] = dict) -> None:
        self._name, self._secret = endpoint.name, endpoint.api_key or ""
        self._http = _http(endpoint, trace)
        self._sdk = _sdk(endpoint, self._http)
        # whole, and once: the SDK takes longer to join it than we take to name it
        self._url = httpx2.URL(f"{self._sdk.base_url}chat/completions")
        self._headers = httpx2.Headers(
            {
                name: value
                for name, value in {**self._sdk.default_headers, **self._sdk.auth_headers}.items()
                if isinstance(value, str)
            }
        )
        self._extensions = {"timeout": httpx2.Timeout(endpoint.timeout).as_dict()}
        self._options = _options(endpoint.timeout)
        self.probe = HttpProbe(self._http, str(self._sdk.base_url), self._headers)

    async def __aenter__(self) -> Self:
        await self._sdk.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._sdk.close()

    async def whole(self, content: bytes) -> dict[str, Any]:
        """Send a body and return the completion that answers it."""
        request = httpx2.Request(
            "POST", self._url, headers=self._headers, content=content, extensions=self._extensions
        )
        try:
            response = await self._http.send(request)
        except _TROUBLE as error:
            raise self._classified(error) from error
        return completion_of(response, self._name, secret=self._secret)

    async def streamed(self, content: bytes, listener: Listener) -> dict[str, Any]:
        """Send a body that asks for a stream, tell it chunk by chunk, and return the completion that it spells."""
        listener.begin()
        try:
            stream = await self._sdk.post(
                str(self._url),
                content=content,
                cast_to=object,
                stream=True,
                stream_cls=openai.AsyncStream[object],
                options=self._options,
            )
            async with stream:
                return checked(await _heard(stream, self._name, listener, self._secret), self._name)
        except _TROUBLE as error:
            raise self._classified(error) from error

    def _classified(self, error: BaseException) -> BacktalkError:
        """Return what an exception on the way means: by status, since the SDK's classes are not complete."""
        if isinstance(error, openai.APIStatusError):
            return refusal(error.response, self._name, secret=self._secret)
        if isinstance(error, TimeoutError | openai.APITimeoutError | httpx2.TimeoutException) and _timed_out(
            error
        ):
            return late(self._name)
        if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
            return Unavailable(
                Code.UPSTREAM_UNAVAILABLE,
                f"endpoint {self._name!r} sent an error in its stream: {masked(error.message, self._secret)[:MAX_TOLD]}",
                endpoint=self._name,
            )
        return Unavailable(
            Code.UPSTREAM_UNAVAILABLE,
            f"endpoint {self._name!r} cannot be reached ({_named(error)}); "
            "check that it runs and its base URL",
            endpoint=self._name,
        )


def _named(error: BaseException) -> str:
    """Return the name of what went wrong: of the transport's own errors that of the cause says more."""
    told = error if isinstance(error, httpx2.DecodingError) else error.__cause__ or error
    return type(told).__name__


def late(endpoint: str) -> Unavailable:
    """Return the error of a call that took too long."""
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


async def _heard(
    stream: openai.AsyncStream[object], endpoint: str, listener: Listener, secret: str
) -> dict[str, Any]:
    """Return the completion that a stream spells, told chunk by chunk."""
    assembly = Assembly()
    try:
        while (chunk := await _next(stream)) is not _END:
            listener.hear(assembly.add(chunk))
        return assembly.whole()
    except Broken as error:
        kind = kind_of(stream.response, secret=secret)
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


class _Sdk(AsyncOpenAI):
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


def _sdk(endpoint: Endpoint, http: httpx2.AsyncClient) -> _Sdk:
    return _Sdk(
        base_url=endpoint.base_url,
        # servers without keys still need the header
        api_key=endpoint.api_key or "none",
        max_retries=0,
        timeout=endpoint.timeout,
        http_client=http,
    )


def _http(endpoint: Endpoint, trace: Callable[[], Mapping[str, str]]) -> httpx2.AsyncClient:
    limits = httpx2.Limits(
        max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency
    )
    return DefaultAioHttpClient(
        limits=limits,
        timeout=endpoint.timeout,
        # a redirect could carry the key somewhere else
        follow_redirects=False,
        event_hooks={
            "request": [_telling(trace)] if endpoint.traced else [],
            "response": [bounded(endpoint.name)],
        },
    )


def _telling(trace: Callable[[], Mapping[str, str]]) -> Callable[[httpx2.Request], Awaitable[None]]:
    async def tell(request: httpx2.Request) -> None:
        request.headers.update(trace())

    return tell
