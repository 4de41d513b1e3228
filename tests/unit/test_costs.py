"""What models have cost, by the price list."""

from decimal import Decimal

import pytest

from backtalk.models.usage import price
from backtalk.operate.costs import Prices, Tokens, prices


def listed(used, endpoint, model):
    return price(used, endpoint=endpoint, model=model)


def test_many_calls_cost_what_they_cost_one_by_one():
    """With tokens from the cache at their own price."""
    used = {
        "prompt_tokens": 3000,
        "prompt_tokens_details": {"cached_tokens": 1000},
        "completion_tokens": 500,
    }
    once = price(used, endpoint="openai", model="gpt-4o")
    found = prices(listed, "openai", "gpt-4o").of(Tokens(3_000_000, 500_000, 1_000_000))
    assert found == pytest.approx(1000 * float(once))


def test_many_short_calls_are_not_taken_for_a_long_one():
    """Some models charge more for a token of a long prompt."""

    def tiered(used, endpoint, model):
        count = used["prompt_tokens"] + used["completion_tokens"]
        return Decimal(count) * (2 if count > 200_000 else 1)

    assert prices(tiered, "e", "m").of(Tokens(1_000_000, 1_000_000)) == 2_000_000


@pytest.mark.parametrize(("endpoint", "model"), [("local", "gpt-4o"), ("openai", "nobody-knows-it")])
def test_a_price_that_is_not_known_is_none(endpoint, model):
    """It is not 0."""
    assert prices(listed, endpoint, model) is None


def test_more_from_the_cache_than_there_was_is_not_paid_back():
    """Two looks of one worker may fall between two counters."""
    assert Prices(2.0, 1.0, 1.0).of(Tokens(10, 0, cached=30)) == 10.0
