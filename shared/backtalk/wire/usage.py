"""What calls used, added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def total(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of usage objects, nested details included; what is no number is left out."""
    summed: dict[str, Any] = {}
    for usage in usages:
        for key, value in usage.items():
            known = summed.get(key)
            if isinstance(value, dict):
                summed[key] = total((known, value) if isinstance(known, dict) else (value,))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                summed[key] = value + known if isinstance(known, int | float) else value
    return summed
