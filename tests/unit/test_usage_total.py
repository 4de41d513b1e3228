"""What calls used, added up, when an endpoint says something odd of it."""

from __future__ import annotations

from backtalk.wire.usage import total


def test_a_number_too_large_for_a_float_breaks_no_sum():
    """An endpoint may say anything: an answer that was paid for is not lost to what it says of its cost."""
    assert set(total([{"cost": 0.5}, {"cost": 10**400}])) <= {"cost"}
