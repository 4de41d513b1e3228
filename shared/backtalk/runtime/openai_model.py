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
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from backtalk.runtime.gate import FairGate
from backtalk.runtime.model import Completion
from backtalk.wire.errors import BacktalkError, Code, Refused, Unavailable, invalid

ATTEMPTS: Final = 3
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
_TRANSIENT: Final = frozenset({408, 409})
_MAX_TOLD: Final = 500


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

    async def complete(self, endpoint: str, body: Mapping[str, Any], owner: Hashable) -> Completion:
        """Send the body, again where that may help, and return a completion with at least one choice."""
        self.check(endpoint)
        content = to_json(body)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(endpoint, content, owner)
            except _BadBody as error:
                if attempt > 1:
                    raise error.rejected() from error
                await asyncio.sleep(_pause(attempt))
            except Unavailable as error:
                if attempt == ATTEMPTS or error.retry_after > LONGEST_PAUSE:
                    raise
                # outside the gate, so that others go on meanwhile
                await asyncio.sleep(error.retry_after or _pause(attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self, endpoint: str, content: bytes, owner: Hashable) -> Completion:
        gate = self._gates[endpoint]
        await gate.enter(owner)
        try:
            client = self._clients[endpoint]
            # the whole address: the SDK takes longer to join it than we take to name it
            url = f"{client.base_url}chat/completions"
            response = await client.post(
                url, content=content, cast_to=httpx2.Response, options=self._options[endpoint]
            )
        except openai.OpenAIError as error:
            raise classify(error, endpoint) from error
        finally:
            gate.leave()
        return Completion(_checked(response, endpoint))


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


class _Called(BaseModel):
    function: dict[str, Any] | None = None
    custom: dict[str, Any] | None = None


class _Said(BaseModel):
    model_config = ConfigDict(extra="allow")

    content: str | None = None
    tool_calls: list[_Called] | None = None


class _Choice(BaseModel):
    index: int | None = None
    message: _Said


class _Answered(BaseModel):
    """As much of a ChatCompletion as Backtalk reads."""

    choices: list[_Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None


class _BadBody(Exception):
    """A 200 whose body is no completion: once it may be a proxy's hiccup, twice it is the endpoint."""

    def __init__(self, endpoint: str, problem: str) -> None:
        super().__init__(problem)
        self.endpoint = endpoint

    def rejected(self) -> Refused:
        return Refused(
            Code.UPSTREAM_REJECTED,
            f"endpoint {self.endpoint!r} answered 200 twice with no chat completion ({self}); check its base URL",
            endpoint=self.endpoint,
            status=200,
        )


def _checked(response: httpx2.Response, endpoint: str) -> dict[str, Any]:
    if not response.is_success:
        raise _by_status(response.status_code, response.text, None, endpoint, response.headers)
    try:
        body = from_json(response.content, allow_inf_nan=False)
        _Answered.model_validate(body)
    except ValidationError as error:
        raise _BadBody(endpoint, f"{error.error_count()} fields missing or of the wrong type") from None
    except ValueError:
        kind = response.headers.get("content-type", "no content type")
        raise _BadBody(endpoint, f"the body is not JSON, {kind}") from None
    return body  # type: ignore[no-any-return]


def classify(error: openai.OpenAIError, endpoint: str) -> BacktalkError:
    """Return what an SDK exception means: by status, since its classes are not complete."""
    if isinstance(error, openai.APITimeoutError) and _timed_out(error):
        return Unavailable(
            Code.UPSTREAM_TIMEOUT, f"endpoint {endpoint!r} did not answer in time", endpoint=endpoint
        )
    if isinstance(error, openai.APIStatusError):
        return _by_status(error.status_code, error.message, error.code, endpoint, error.response.headers)
    return Unavailable(
        Code.UPSTREAM_UNAVAILABLE,
        f"endpoint {endpoint!r} cannot be reached ({type(error.__cause__ or error).__name__}); "
        "check that it runs and its base URL",
        endpoint=endpoint,
    )


def _timed_out(error: BaseException | None) -> bool:
    """Tell a real timeout: the aiohttp transport calls a refused connection one as well."""
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__
    return False


def _by_status(
    status: int, message: str, code: str | None, endpoint: str, headers: Mapping[str, str]
) -> BacktalkError:
    told = f"endpoint {endpoint!r} answered {status}: {message[:_MAX_TOLD]}"
    details = {"endpoint": endpoint, "status": status}
    passing = status >= 500 or status in _TRANSIENT or (status == 429 and code != "insufficient_quota")
    if passing:
        return Unavailable(Code.UPSTREAM_UNAVAILABLE, told, retry_after=_retry_after(headers), **details)
    return Refused(Code.UPSTREAM_REJECTED, told, **details)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds an endpoint asks to wait; the HTTP-date form is rare and counts as none."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(float(headers[name]) / unit, 0.0)
        except (KeyError, ValueError):
            continue
    return 0.0
