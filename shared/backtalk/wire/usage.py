"""What calls used, added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_MOST: Final = 2**63


def total(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of usage objects, nested details included; what is no number is left out."""
    summed: dict[str, Any] = {}
    for usage in usages:
        for key, value in usage.items():
            known = summed.get(key)
            if isinstance(value, dict):
                summed[key] = total((known, value) if isinstance(known, dict) else (value,))
            elif _counts(value):
                added = value + known if isinstance(known, int | float) else value
                summed[key] = added if _counts(added) else known
    return summed


def _counts(value: Any) -> bool:
    """Tell a number that means something: an endpoint may say anything, and no answer is lost to it."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
