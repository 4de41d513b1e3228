"""What is counted and measured of calls to models. The one label that senders choose, the model, is bounded here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from backtalk.runtime.answered import BadBody
from backtalk.wire.errors import BacktalkError, Code, Refused

SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
OTHER: Final = "other"
MOST_MODELS: Final = 100
_LONGEST_NAME: Final = 128
# those that have a reason of their own: an endpoint may answer any status
_STATUSES: Final = frozenset({401, 403, 408, 409, 429, 500, 502, 503, 504, 529})
_MOST_TOKENS: Final = 2**53
_TOKENS: Final = (
    ("input", "prompt_tokens"),
    ("output", "completion_tokens"),
    ("cached_input", "prompt_tokens_details", "cached_tokens"),
    ("reasoning", "completion_tokens_details", "reasoning_tokens"),
)


class ModelNames:
    """The names that may be a label: of models that answered, and not more than so many in a process."""

    def __init__(self, most: int = MOST_MODELS) -> None:
        self._most = most
        self._known: set[str] = set()

    def answered(self, model: str) -> str:
        """Return the label of a model that answered a call."""
        if model in self._known:
            return model
        # what is not printable includes half of a surrogate pair, which no text format can hold
        if len(self._known) >= self._most or len(model) > _LONGEST_NAME or not model.isprintable():
            return OTHER
        self._known.add(model)
        return model

    def failed(self, model: str) -> str:
        """Return the label of a model that did not answer: anybody may ask for one that does not exist."""
        return model if model in self._known else OTHER


class ModelMetrics:
    """The instruments that all endpoints of a process share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.names = ModelNames()
        self.seconds = Histogram(
            "backtalk_model_request_duration_seconds",
            "Calls of a model, each try by itself, without the wait for a place",
            ("endpoint", "model", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "backtalk_model_tokens",
            "Tokens that endpoints said they used",
            ("endpoint", "model", "kind"),
            registry=registry,
        )
        self.retries = Counter(
            "backtalk_model_retries",
            "Calls of a model that were tried again",
            ("endpoint", "reason"),
            registry=registry,
        )
        self.in_flight = Gauge(
            "backtalk_model_requests_in_flight",
            "Calls that are on their way to a model",
            ("endpoint",),
            registry=registry,
        )
        self.open = Gauge(
            "backtalk_endpoint_open", "1 while an endpoint takes calls", ("endpoint",), registry=registry
        )


class EndpointMetrics:
    """The instruments of one endpoint; `closed` and `in_flight` are asked when somebody looks, in any thread."""

    def __init__(
        self, of: ModelMetrics, endpoint: str, *, closed: Callable[[], bool], in_flight: Callable[[], int]
    ) -> None:
        self._of = of
        self._endpoint = endpoint
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._tokens: dict[tuple[str, str], Counter] = {}
        of.open.labels(endpoint).set_function(lambda: not closed())
        of.in_flight.labels(endpoint).set_function(in_flight)

    def answered(self, model: str, usage: Any, seconds: float) -> None:
        """Note a completion, and what it used as the endpoint says it, if it does."""
        name = self._of.names.answered(model)
        self._took(name, "ok", seconds)
        for kind, count in _counted(usage):
            known = self._tokens.get((name, kind))
            if known is None:
                known = self._tokens[name, kind] = self._of.tokens.labels(self._endpoint, name, kind)
            known.inc(count)

    def failed(self, model: str, error: BaseException, seconds: float) -> None:
        """Note a call that ended otherwise."""
        self._took(self._of.names.failed(model), _outcome(error), seconds)

    def retried(self, error: Exception) -> None:
        """Note a call that is tried again because of an error."""
        self._of.retries.labels(self._endpoint, reason(error)).inc()

    def _took(self, model: str, outcome: str, seconds: float) -> None:
        known = self._seconds.get((model, outcome))
        if known is None:
            known = self._seconds[model, outcome] = self._of.seconds.labels(self._endpoint, model, outcome)
        known.observe(seconds)


def reason(error: Exception) -> str:
    """Return why a call is tried again: a status, or timeout, connection, bad_body."""
    if isinstance(error, BadBody):
        return "bad_body"
    if not isinstance(error, BacktalkError):
        return OTHER
    status = error.error.details.get("status")
    if status is not None:
        return str(status) if status in _STATUSES else OTHER
    return "timeout" if error.error.code is Code.UPSTREAM_TIMEOUT else "connection"


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "refused" if isinstance(error, Refused) else "unavailable"


def _counted(usage: Any) -> Iterator[tuple[str, int]]:
    """Yield the tokens of each kind; an endpoint may say anything, and what is no count is left out."""
    for kind, *path in _TOKENS:
        value = usage
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if type(value) is int and 0 < value < _MOST_TOKENS:
            yield kind, value
