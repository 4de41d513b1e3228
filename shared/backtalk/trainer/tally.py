"""Metrics of many batches as one: each item counts the same, in small batches as in large ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class Tally:
    """Sums of metrics, and of the items they are means of."""

    def __init__(self, sums: Mapping[str, tuple[float, int]] | None = None) -> None:
        self._sums: dict[str, tuple[float, int]] = dict(sums or {})

    def add(self, metrics: Mapping[str, float], items: int) -> None:
        """Add the metrics of a batch."""
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value * items, count + items

    def means(self) -> dict[str, float]:
        """Return the mean of each metric.

        >>> tally = Tally()
        >>> tally.add({"score": 1.0}, 3)
        >>> tally.add({"score": 0.0}, 1)
        >>> tally.means()
        {'score': 0.75}
        """
        return {name: total / count for name, (total, count) in self._sums.items()}

    def state(self) -> dict[str, list[float]]:
        """Return the sums as JSON holds them."""
        return {name: list(one) for name, one in self._sums.items()}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """Return a tally from its state."""
        return cls({name: (float(total), int(count)) for name, (total, count) in state.items()})
