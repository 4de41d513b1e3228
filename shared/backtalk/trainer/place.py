"""Where in its run a Trainer is: all that a checkpoint needs to go on from there."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backtalk.trainer.journal import Spent
from backtalk.trainer.tally import Tally
from backtalk.trainer.watch import Watch


@dataclass
class Place:
    """Complete epochs, batches of the epoch that has begun, steps, and what was measured and spent so far.

    `curve` has a list of `(step, value)` for each split; `earlier` is what was spent before this run was resumed.
    """

    watch: Watch
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    epoch: int = 0
    batch: int = 0
    step: int = 0
    tally: Tally = field(default_factory=Tally)
    curve: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    earlier: Spent = field(default_factory=lambda: Spent(0, 0, 0.0, 0.0))

    @property
    def current(self) -> int:
        """The number of the epoch that has begun, from 1 on; 0 before the first step."""
        return self.epoch + (self.batch > 0)

    @property
    def is_measured(self) -> bool:
        """Whether there was a step, or something to compare it with."""
        return self.step > 0 or self.watch.best is not None

    def state(self, spent: Spent) -> dict[str, Any]:
        """Return the place as JSON holds it, with all that was spent to get there."""
        return {
            "run": self.run,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "tally": self.tally.state(),
            "curve": {name: [list(point) for point in points] for name, points in self.curve.items()},
            "watch": {name: getattr(self.watch, name) for name in ("best", "mark", "stale")},
            "spent": asdict(spent),
        }

    @classmethod
    def of(cls, state: Any, watch: Watch) -> Place:
        """Return a place from its state; the watch's options are those of today. Raises ValueError for what is none."""
        try:
            return cls._of(state, watch)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"this is no checkpoint of a Trainer: {error!r}; resume from the last.json or best.json of one"
            ) from error

    @classmethod
    def _of(cls, state: Mapping[str, Any], watch: Watch) -> Place:
        for name in ("best", "mark", "stale"):
            setattr(watch, name, state["watch"][name])
        return cls(
            watch=watch,
            run=str(state["run"]),
            epoch=int(state["epoch"]),
            batch=int(state["batch"]),
            step=int(state["step"]),
            tally=Tally.of(state["tally"]),
            curve={name: [(x, y) for x, y in points] for name, points in state["curve"].items()},
            earlier=Spent(**state["spent"]),
        )
