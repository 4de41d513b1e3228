"""RabbitMQ's management API, asked for what AMQP does not tell: bindings, policies, and how messages flow."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit

from backtalk.operate.fetching import fetch
from backtalk.operate.policies import Policy
from backtalk.transport.topology import Binding

SECONDS: Final = 10.0
_FLOWS: Final = ("publish", "ack")
_COLUMNS: Final = ",".join(
    (
        "name",
        "messages_ready",
        "messages_unacknowledged",
        "consumers",
        "messages_details.rate",
        *(f"message_stats.{one}_details.rate" for one in _FLOWS),
    )
)


class NotTold(Exception):
    """Raised when the management API gives no answer that one can use; the message holds no credentials."""


@dataclass(frozen=True, slots=True)
class Level:
    """How full a queue is, and how many messages a second come into it and leave it; None is what is not known."""

    ready: int | None
    consumers: int | None
    unacked: int | None = None
    in_rate: float | None = None
    out_rate: float | None = None


class Management:
    """The API at `http://user:password@host:15672`, for the virtual host of an AMQP URL."""

    def __init__(self, url: str, *, amqp_url: str) -> None:
        parts = urlsplit(url)
        try:
            good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        except ValueError:
            good = False
        if not good:
            raise NotTold("the management URL should be http://user:password@host:15672")
        login = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        place = parts.netloc.rpartition("@")[2]
        self._base = f"{parts.scheme}://{place}{parts.path.rstrip('/')}/api"
        self._authorization = "Basic " + base64.b64encode(login.encode()).decode("ascii")
        self._vhost = quote(virtual_host(amqp_url), safe="")

    async def bindings(self) -> frozenset[Binding]:
        """Return which exchanges put what into which queues. Raises NotTold."""
        return frozenset(
            Binding(one["source"], one["routing_key"], one["destination"])
            for one in await self._get(f"bindings/{self._vhost}")
            if one.get("destination_type") == "queue"
        )

    async def policies(self) -> tuple[Policy, ...]:
        """Return all policies, those of operators included. Raises NotTold."""
        # not asked queue by queue: what is told there may be a minute old
        own = await self._get(f"policies/{self._vhost}")
        operators = await self._get(f"operator-policies/{self._vhost}")
        return (*(_policy(one) for one in own), *(_policy(one, operator=True) for one in operators))

    async def levels(self) -> dict[str, Level]:
        """Return how full and how busy all queues of the virtual host are, by name. Raises NotTold."""
        told = await self._get(f"queues/{self._vhost}?columns={_COLUMNS}")
        try:
            return {one["name"]: _level(one) for one in told}
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
            raise NotTold("what answered at the management URL is no management API") from error

    async def _get(self, path: str) -> Any:
        return await asyncio.to_thread(self._read, path)

    def _read(self, path: str) -> Any:
        url = f"{self._base}/{path}"
        try:
            return json.loads(fetch(url, seconds=SECONDS, authorization=self._authorization))
        except HTTPError as error:
            with error:
                raise NotTold(_refusal(error.code)) from error
        except (URLError, HTTPException, OSError) as error:
            raise NotTold(f"the management API did not answer ({getattr(error, 'reason', error)})") from error
        except (ValueError, RecursionError) as error:
            raise NotTold("what answered at the management URL is no management API") from error


def _policy(told: Mapping[str, Any], *, operator: bool = False) -> Policy:
    return Policy(
        told["name"],
        told["pattern"],
        told["apply-to"],
        told["priority"],
        told["definition"],
        operator=operator,
    )


def _level(told: Mapping[str, Any]) -> Level:
    # what nobody published to or read from has no statistics; a broker that keeps no rates tells none at all
    keeps_rates = "messages_details" in told
    stats = told.get("message_stats") or {}
    came, gone = ((stats.get(f"{one}_details") or {}).get("rate", 0.0) for one in _FLOWS)
    return Level(
        ready=_count(told.get("messages_ready")),
        consumers=_count(told.get("consumers")),
        unacked=_count(told.get("messages_unacknowledged")),
        in_rate=_rate(came) if keeps_rates else None,
        out_rate=_rate(gone) if keeps_rates else None,
    )


def _count(told: Any) -> int | None:
    if told is None or type(told) is int:
        return told
    raise TypeError(f"{told!r} is no count")


def _rate(told: Any) -> float:
    if math.isfinite(rate := float(told)):
        return rate
    raise ValueError(f"{told!r} is no rate")


def _refusal(status: int) -> str:
    if status in (401, 403):
        return "the management API refused user or password; the user needs the tag `monitoring`"
    if status == 404:
        return (
            "the management API knows nothing there: check the address, and the virtual host of the AMQP URL"
        )
    return f"the management API answered {status}"


def virtual_host(amqp_url: str) -> str:
    """Return the virtual host that an AMQP URL names."""
    return unquote(urlsplit(amqp_url).path[1:]) or "/"
