"""What models have cost, from counts of tokens and a price list that the caller brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

# a usage as OpenAI writes it, the endpoint and the model to dollars; None where the price is not known
Price: TypeAlias = Callable[[Mapping[str, Any], str, str], Decimal | None]

_SAMPLE: Final = 1000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens, or tokens a second: those read from a cache are among the input, those thought among the output."""

    input: float
    output: float
    cached: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for one token of each kind."""

    input: float
    output: float
    cached: float

    def of(self, tokens: Tokens) -> float:
        cached = min(tokens.cached, tokens.input)
        return (tokens.input - cached) * self.input + cached * self.cached + tokens.output * self.output


def prices(price: Price, endpoint: str, model: str) -> Prices | None:
    """Return the prices of a model, None where they are not known.

    They are those of a short call: the sum of many calls would be taken for one long one, for which some models charge more.
    """
    told = (
        price({"prompt_tokens": _SAMPLE, "completion_tokens": 0}, endpoint, model),
        price({"prompt_tokens": 0, "completion_tokens": _SAMPLE}, endpoint, model),
        price(
            {
                "prompt_tokens": _SAMPLE,
                "completion_tokens": 0,
                "prompt_tokens_details": {"cached_tokens": _SAMPLE},
            },
            endpoint,
            model,
        ),
    )
    known = [float(one) / _SAMPLE for one in told if one is not None]
    return Prices(*known) if len(known) == len(told) else None
