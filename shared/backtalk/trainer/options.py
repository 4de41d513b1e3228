"""What a Trainer was told, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from backtalk.trainer.outcome import SCORE
from backtalk.trainer.watch import Mode, Watch

BEST: Final = "best"
LAST: Final = "last"


@dataclass(frozen=True, slots=True)
class Options:
    """How long to learn, what by, and what to leave behind; see `Trainer`."""

    max_epochs: int
    max_tokens: int | None = None
    monitor: str = SCORE
    mode: Mode = "max"
    patience: int | None = None
    min_delta: float = 0.0
    directory: Path | None = None
    checkpointing: bool = True
    bar: bool = True
    curve: bool = True
    baseline: bool = True

    def __post_init__(self) -> None:
        if type(self.max_epochs) is not int or self.max_epochs < 1:
            raise ValueError(f"max_epochs is {self.max_epochs!r}; it must be a number of epochs, 1 or more")
        for name in ("max_tokens", "patience"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} is {value!r}; it must be 1 or more, or None")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode is {self.mode!r}; it must be 'max' or 'min'")
        if self.min_delta < 0:
            raise ValueError(f"min_delta is {self.min_delta}; it must be 0 or more")

    def watch(self) -> Watch:
        """Return what tells the best epoch."""
        return Watch(self.mode, self.patience, self.min_delta)

    def file(self, name: str) -> Path | None:
        """Return the path of a file that is left behind, None where nothing is."""
        return None if self.directory is None else self.directory / name

    def checkpoint(self, which: str) -> Path | None:
        """Return the path of the best or of the last checkpoint, None where none is kept."""
        return self.file(f"{which}.json") if self.checkpointing else None
