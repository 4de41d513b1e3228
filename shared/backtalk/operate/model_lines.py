"""What the workers say of models: how many requests, how slow, how many tokens, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from backtalk.operate.costs import Prices, Tokens
from backtalk.operate.lines import ModelLine
from backtalk.operate.measures import latency
from backtalk.operate.rates import merged, summed, total
from backtalk.operate.scrape import Samples

PricesOf: TypeAlias = Callable[[str, str], Prices | None]

_HOUR: Final = 3600.0
_REQUESTS: Final = "backtalk_model_request_duration_seconds"
_IN_FLIGHT: Final = "backtalk_model_requests_in_flight"
_TOKENS: Final = "backtalk_model_tokens_total"
_OPEN: Final = "backtalk_endpoint_open"


def model_lines(workers: Iterable[Samples], paces: Samples | None, prices: PricesOf) -> tuple[ModelLine, ...]:
    """Return a line for each model that was asked, and for each endpoint that was asked for none."""
    each = tuple(workers)
    totals = merged(each)
    named = {
        *summed(totals, f"{_REQUESTS}_count", "endpoint", "model"),
        *summed(totals, _TOKENS, "endpoint", "model"),
    }
    asked = {endpoint for endpoint, _ in named}
    known = {*summed(totals, _OPEN, "endpoint"), *summed(totals, _IN_FLIGHT, "endpoint")}
    idle = {(endpoint, "") for (endpoint,) in known if endpoint not in asked}
    return tuple(
        _line(totals, paces, prices, (endpoint, model), closed=_closed(each, endpoint))
        for endpoint, model in sorted(named | idle)
    )


def _closed(workers: Iterable[Samples], endpoint: str) -> int:
    return sum(summed(one, _OPEN, endpoint=endpoint).get((), 1.0) == 0 for one in workers)


def _line(
    totals: Samples, paces: Samples | None, prices: PricesOf, named: tuple[str, str], *, closed: int
) -> ModelLine:
    endpoint, model = named
    where = {"endpoint": endpoint, "model": model}
    used, pace = _tokens(totals, where), None if paces is None else _tokens(paces, where)
    # what was never asked has cost nothing, whatever its price
    asked = total(totals, f"{_REQUESTS}_count", **where) or used.input or used.output
    price = prices(endpoint, model) if asked else Prices(0, 0, 0)
    return ModelLine(
        endpoint=endpoint,
        model=model,
        closed=closed,
        request_rate=None if paces is None else total(paces, f"{_REQUESTS}_count", **where),
        in_flight=int(total(totals, _IN_FLIGHT, endpoint=endpoint)),
        p50=latency(paces, totals, 0.5, _REQUESTS, **where),
        p95=latency(paces, totals, 0.95, _REQUESTS, **where),
        input_rate=None if pace is None else pace.input,
        output_rate=None if pace is None else pace.output,
        input=int(used.input),
        cached=int(used.cached),
        output=int(used.output),
        reasoning=int(total(totals, _TOKENS, **where, kind="reasoning")),
        cost_usd=None if price is None else price.of(used),
        usd_per_hour=None if price is None or pace is None else price.of(pace) * _HOUR,
    )


def _tokens(samples: Samples, where: Mapping[str, str]) -> Tokens:
    kinds = summed(samples, _TOKENS, "kind", **where)
    return Tokens(*(kinds.get((kind,), 0.0) for kind in ("input", "output", "cached_input")))
