"""The metrics of a run as JSON lines: one for each step, and one for each epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from backtalk.trainer.outcome import SCORE

Split: TypeAlias = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What something took: tokens, dollars (None: unknown) and seconds."""

    tokens_in: int
    tokens_out: int
    cost: float | None
    seconds: float

    @classmethod
    def of(cls, usage: Mapping[str, Any], seconds: float) -> Spent:
        """Return what a usage object tells of it."""
        told, written = (usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens"))
        return cls(told, written, usage["cost"]["amount"], seconds)

    @property
    def tokens(self) -> int:
        """Both kinds together: what a budget is of."""
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what was measured, where in the run, and what that took."""

    per: Literal["step", "epoch"]
    split: Split
    epoch: int
    step: int
    items: int | None
    metrics: Mapping[str, float]
    spent: Spent

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON holds it: `score` stands by itself, what a program measures beside it in `metrics`."""
        return {
            "per": self.per,
            "split": self.split,
            "epoch": self.epoch,
            "step": self.step,
            "items": self.items,
            "score": self.metrics.get(SCORE),
            "metrics": {name: value for name, value in self.metrics.items() if name != SCORE},
            "tokens_in": self.spent.tokens_in,
            "tokens_out": self.spent.tokens_out,
            "cost": self.spent.cost,
            "seconds": round(self.spent.seconds, 3),
        }


class Journal:
    """A file that lines are appended to, each whole as soon as it is known; without a path they go nowhere."""

    def __init__(self, path: Path | None, run: str) -> None:
        self._path = path
        self._run = run

    def write(self, line: Line) -> None:
        """Append a line."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"run": self._run, **line.as_dict()}) + "\n")
