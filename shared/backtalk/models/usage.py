"""What calls have used: tokens, and money where the price is known."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final, Self

from backtalk.wire.usage import total

CURRENCY: Final = "USD"
_NOTHING: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class Usage:
    """A running total, for any number of threads. One call of unknown price makes the cost unknown: null, never 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            self._tokens: dict[str, Any] = dict(_NOTHING)
            self._calls = 0
            self._amount: Decimal | None = Decimal(0)

    def add(self, used: Mapping[str, Any], amount: Decimal | None, *, calls: int = 1) -> None:
        """Add what some calls have used, as OpenAI's `usage` objects say it, and what that costs, None if unknown."""
        with self._lock:
            counted = {key: value for key, value in used.items() if key != "calls"}
            self._tokens = total((self._tokens, counted))
            self._calls += calls
            self._amount = None if self._amount is None or amount is None else self._amount + amount

    def as_dict(self) -> dict[str, Any]:
        """Return tokens with their details, `calls`, and `cost`: `{"amount": dollars or None, "currency": "USD"}`."""
        with self._lock:
            amount = None if self._amount is None else float(self._amount)
            return {
                **copy.deepcopy(self._tokens),
                "calls": self._calls,
                "cost": {"amount": amount, "currency": CURRENCY},
            }

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self)()
        with self._lock:
            kept = {name: value for name, value in self.__dict__.items() if name != "_lock"}
            copied.__dict__.update(copy.deepcopy(kept, memo))
        return copied


class Counts:
    """The totals that are being kept of all calls of the process, or of those of some clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[tuple[Usage, tuple[object, ...] | None], ...] = ()

    @contextmanager
    def counted(self, clients: Iterable[object] | None = None) -> Iterator[Usage]:
        """Count what is used within a block, in any thread: by these clients, by default by all."""
        one = (Usage(), None if clients is None else tuple(clients))
        with self._lock:
            self._kept += (one,)
        try:
            yield one[0]
        finally:
            with self._lock:
                self._kept = tuple(kept for kept in self._kept if kept is not one)

    def of(self, client: object) -> Iterator[Usage]:
        """Yield the totals that a call of this client belongs to."""
        for usage, clients in self._kept:
            if clients is None or any(one is client for one in clients):
                yield usage


COUNTS: Final = Counts()
counted = COUNTS.counted


def price(used: Mapping[str, Any], *, endpoint: str, model: object) -> Decimal | None:
    """Return what a call cost in dollars, by the price list of the provider that the endpoint is named after.

    None where there is no such provider, no such model, or no count of tokens: servers write all kinds of things there.
    """
    from genai_prices import Usage as Priced  # noqa: PLC0415  a price list is of use only to who asks models
    from genai_prices import calc_price  # noqa: PLC0415

    counts = [used.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not isinstance(model, str) or not any(counts) or any(type(count) is not int for count in counts):
        return None
    details = used.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    try:
        counted = Priced(input_tokens=counts[0], cache_read_tokens=cached, output_tokens=counts[1])
        return calc_price(counted, model, provider_id=endpoint).total_price
    except (LookupError, TypeError, ValueError):
        return None
