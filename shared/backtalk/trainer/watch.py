"""Whether learning still gets anywhere: the best so far, and for how long there was no better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["max", "min"]


@dataclass
class Watch:
    """The best value of a metric, and how many epochs ago it last improved by more than `min_delta`."""

    mode: Mode = "max"
    patience: int | None = None
    min_delta: float = 0.0
    best: float | None = None
    mark: float | None = None
    stale: int = 0

    def see(self, value: float) -> bool:
        """Take note of an epoch, and tell whether it is the best so far.

        >>> watch = Watch(patience=1)
        >>> watch.see(0.5), watch.see(0.5), watch.is_over
        (True, False, True)
        """
        if self._gain(value, self.mark) > self.min_delta:
            self.mark, self.stale = value, 0
        else:
            self.stale += 1
        better = self._gain(value, self.best) > 0
        if better:
            self.best = value
        return better

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.stale >= self.patience

    def _gain(self, value: float, before: float | None) -> float:
        if before is None:
            return math.inf
        return value - before if self.mode == "max" else before - value
