"""What an answer of an endpoint means: a completion, or which error. It knows no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx2
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError
from pydantic_core import from_json

from backtalk.wire.codec import MAX_DEPTH, deeper_than
from backtalk.wire.errors import BacktalkError, Code, Refused, Unavailable

MAX_TOLD: Final = 500
_TRANSIENT: Final = frozenset({408, 409})


class _Called(BaseModel):
    function: dict[str, Any] | None = None
    custom: dict[str, Any] | None = None


class _Said(BaseModel):
    model_config = ConfigDict(extra="allow")

    content: str | None = None
    tool_calls: list[_Called] | None = None


class _Choice(BaseModel):
    index: StrictInt | None = None
    message: _Said


class _Answered(BaseModel):
    """As much of a ChatCompletion as Backtalk reads."""

    choices: list[_Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None


class BadBody(Exception):
    """A 200 whose body is no completion: once it may be a proxy's hiccup, twice it is the endpoint."""

    def __init__(self, endpoint: str, problem: str, remedy: str = "check its base URL") -> None:
        super().__init__(problem)
        self.endpoint = endpoint
        self.remedy = remedy

    def rejected(self) -> Refused:
        return Refused(
            Code.UPSTREAM_REJECTED,
            f"endpoint {self.endpoint!r} answered 200 twice with no chat completion ({self}); {self.remedy}",
            endpoint=self.endpoint,
            status=200,
        )


def completion_of(response: httpx2.Response, endpoint: str, *, secret: str = "") -> dict[str, Any]:
    """Return the completion that a whole response holds."""
    if not response.is_success:
        raise refusal(response, endpoint, secret=secret)
    try:
        body = from_json(response.content, allow_inf_nan=False)
    except ValueError:
        raise BadBody(endpoint, f"the body is not JSON, {kind_of(response, secret=secret)}") from None
    return checked(body, endpoint)


def checked(body: Any, endpoint: str) -> dict[str, Any]:
    """Return the body if it is a completion, streamed or not."""
    try:
        _Answered.model_validate(body)
    except ValidationError as error:
        raise BadBody(endpoint, f"{error.error_count()} fields missing or of the wrong type") from None
    if deeper_than(body, MAX_DEPTH):
        raise BadBody(endpoint, f"nested more than {MAX_DEPTH} levels", "nobody could read it")
    return body  # type: ignore[no-any-return]


def kind_of(response: httpx2.Response, *, secret: str = "") -> str:
    """Return the content type, or words for its absence; the `secret` is told to nobody."""
    return masked(str(response.headers.get("content-type", "no content type")), secret).lower()


def masked(text: str, secret: str) -> str:
    """Return what an endpoint said without the key that it may repeat."""
    return text.replace(secret, "***") if secret else text


def refusal(response: httpx2.Response, endpoint: str, *, secret: str = "") -> BacktalkError:
    """Return what a response means whose status is no success; the `secret` is told to nobody."""
    message, code = _error_in(response, secret)
    return by_status(response.status_code, masked(message, secret), code, endpoint, response.headers)


def _error_in(response: httpx2.Response, secret: str) -> tuple[str, str | None]:
    """Return what an endpoint says of an error, and OpenAI's code for it.

    Of a body that is none of OpenAI's only the kind is told: a gateway's page may repeat what it was sent.
    """
    try:
        error = from_json(response.content)["error"]
        message, code = error["message"], error.get("code")
    except (ValueError, LookupError, TypeError, AttributeError):
        message, code = None, None
    if not isinstance(message, str):
        message = f"{kind_of(response, secret=secret)}, {len(response.content)} bytes"
    return message, code if isinstance(code, str) else None


def by_status(
    status: int, message: str, code: str | None, endpoint: str, headers: Mapping[str, str]
) -> BacktalkError:
    told = f"endpoint {endpoint!r} answered {status}: {message[:MAX_TOLD]}"
    details = {"endpoint": endpoint, "status": status}
    passing = status >= 500 or status in _TRANSIENT or (status == 429 and code != "insufficient_quota")
    if passing:
        return Unavailable(Code.UPSTREAM_UNAVAILABLE, told, retry_after=_retry_after(headers), **details)
    return Refused(Code.UPSTREAM_REJECTED, told, **details)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds an endpoint asks to wait; the HTTP-date form is rare and counts as none."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            # "nan" is a float as well; of the two orders of comparison, this one makes nothing of it
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    return 0.0
