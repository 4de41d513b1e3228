"""The files that learning can go on from: the state after the last step, and that of the best epoch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from backtalk.checkpoint import load, save
from backtalk.cognitive import Module
from backtalk.trainer.doing import Optimizer
from backtalk.trainer.journal import Spent
from backtalk.trainer.options import BEST, LAST, Options
from backtalk.trainer.place import Place


class Checkpoints:
    """Saves what learns and where its Trainer is."""

    def __init__(self, options: Options, agent: Module, optimizers: Sequence[Optimizer]) -> None:
        self._options = options
        self._agent = agent
        self._optimizers = optimizers

    def save(self, which: str, place: Place, spent: Spent) -> None:
        """Write one of the two, if they are wanted."""
        if path := self._options.checkpoint(which):
            path.parent.mkdir(parents=True, exist_ok=True)
            save(
                {
                    "agent": self._agent.state_dict(),
                    "optimizers": [one.state_dict() for one in self._optimizers],
                    "trainer": place.state(spent),
                },
                path,
            )

    def charge(self, spent: Spent) -> None:
        """Let the last checkpoint know what a step took that was not finished; what it holds stays that of the step before."""
        path = self._options.checkpoint(LAST)
        if path is not None:
            # the error that led here matters more
            with suppress(OSError, ValueError):
                state = load(path)
                save({**state, "trainer": {**state["trainer"], "spent": asdict(spent)}}, path)

    def restore(self, path: str | Path) -> Place:
        """Take back what `save` wrote, and return where it was. Raises ValueError where it does not fit."""
        state = load(path)
        place = Place.of(state.get("trainer"), self._options.watch())
        kept = state["optimizers"]
        if len(kept) != len(self._optimizers):
            raise ValueError(
                f"{path}: has {len(kept)} optimizers, the program {len(self._optimizers)}; build it as it was"
            )
        self._agent.load_state_dict(state["agent"])
        for optimizer, one in zip(self._optimizers, kept, strict=True):
            optimizer.load_state_dict(one)
        return place

    def set_aside(self) -> None:
        """Rename what an earlier run left: what it learnt was paid for."""
        found = [
            path for which in (BEST, LAST) if (path := self._options.checkpoint(which)) and path.exists()
        ]
        if found:
            number = next(at for at in count(1) if not any(_aside(path, at).exists() for path in found))
            for path in found:
                path.rename(_aside(path, number))


def load_agent(agent: Module, path: str | Path) -> None:
    """Let a program take what a checkpoint says it learnt. Raises ValueError for a file that is no checkpoint."""
    state: dict[str, Any] = load(path)
    if "agent" not in state:
        raise ValueError(f"{path}: is no checkpoint of a Trainer; name its best.json or last.json")
    agent.load_state_dict(state["agent"])


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")
