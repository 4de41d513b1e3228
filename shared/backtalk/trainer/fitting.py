"""One run of learning, from its first step to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backtalk.autodiff.warn import warn
from backtalk.trainer.bar import price, shown
from backtalk.trainer.checkpoints import Checkpoints
from backtalk.trainer.curve import draw
from backtalk.trainer.doing import Optimizer
from backtalk.trainer.journal import Spent
from backtalk.trainer.measuring import Batches, Measuring, Meter, begun
from backtalk.trainer.options import BEST, LAST, Options
from backtalk.trainer.place import Place
from backtalk.trainer.tally import Tally


@dataclass(frozen=True, slots=True)
class Fit:
    """How a run ended: why, after how many epochs and steps, the best value of what was monitored, and what it took."""

    reason: Literal["epochs", "patience", "budget"]
    epochs: int
    steps: int
    best: float | None
    best_checkpoint: Path | None
    spent: Spent


class _Enough(Exception):
    """The budget is spent."""


class Fitting:
    """A program that learns from batches until it is told to stop; `place` is where it is."""

    def __init__(
        self,
        options: Options,
        measuring: Measuring,
        optimizers: Sequence[Optimizer],
        checkpoints: Checkpoints,
        place: Place,
    ) -> None:
        self.options, self.measuring, self.optimizers = options, measuring, optimizers
        self.checkpoints, self.place = checkpoints, place

    async def run(self, train: Batches, val: Batches | None, meter: Meter) -> Fit:
        """Learn, and return how it ended. What stops it otherwise is raised, with a note on what is saved."""
        self.train, self.val, self.meter = train, val, meter
        self._save(LAST)
        try:
            reason = await self._epochs()
        except BaseException as error:
            self._note(error)
            raise
        finally:
            self._draw()
        return self._ended(reason)

    # ---- epochs

    async def _epochs(self) -> Literal["epochs", "patience", "budget"]:
        try:
            if self.val is not None and self.options.baseline and not self.place.is_measured:
                self._keep(better=self._is_best(await self._validate(self.val, "before the first step")))
            while self.place.epoch < self.options.max_epochs:
                if self.place.watch.is_over:
                    return "patience"
                await self._epoch()
        except _Enough:
            return "budget"
        return "patience" if self.place.watch.is_over else "epochs"

    async def _epoch(self) -> None:
        place, what = self.place, f"epoch {self.place.epoch + 1} of {self.options.max_epochs}"
        self.measuring.bar.begin(what, len(self.train), place.batch)
        with self.measuring.metered() as own:
            for at, batch in enumerate(begun(self.train, place.epoch, place.batch), place.batch):
                self._check_budget()
                await self._step(batch, at)
        means = place.tally.means()
        if not means:
            raise ValueError("the loader gave no batch, or its steps no number; there is nothing to learn by")
        self.measuring.tell("epoch", "train", place, means, own.spent)
        self.measuring.bar.say(f"{what}: {shown(means)}; {price(self.meter.spent)} so far")
        if self.val is not None:
            means = await self._validate(self.val, what)
        better = self._is_best(means)
        place.epoch, place.batch, place.tally = place.epoch + 1, 0, Tally()
        self._keep(better=better)

    async def _step(self, batch: object, at: int) -> None:
        measuring, place = self.measuring, self.place
        with measuring.metered() as own:
            for optimizer in self.optimizers:
                optimizer.clear_grad()
            outcome = await measuring.outcome("train", batch, at)
            if outcome.start is None:
                raise TypeError("training_step returned no loss; return an evaluation, (score, explanation)")
            await measuring.doing.backward(outcome.start)
            for optimizer in self.optimizers:
                await measuring.doing.step(optimizer)
        place.step, place.batch = place.step + 1, at + 1
        place.tally.add(outcome.metrics, outcome.items)
        # what was measured was so before the step
        self._plot("train", place.step - 1, outcome.metrics.get(self.options.monitor))
        measuring.tell("step", "train", place, outcome.metrics, own.spent, outcome.items)
        measuring.bar.advance(place.tally.means(), self.meter.spent)
        self._save(LAST)

    async def _validate(self, val: Batches, what: str) -> dict[str, float]:
        self.measuring.bar.begin(f"{what}, validation", len(val))
        means = await self.measuring.evaluate("val", val, self.place, self.meter, self._check_budget)
        self.measuring.bar.say(f"{what}: {shown(means)} in validation")
        self._plot("val", self.place.step, means.get(self.options.monitor))
        return means

    # ---- what is decided, and what is kept

    def _check_budget(self) -> None:
        most = self.options.max_tokens
        if most is not None and self.meter.spent.tokens >= most:
            raise _Enough

    def _is_best(self, means: dict[str, float]) -> bool:
        if self.options.monitor not in means:
            raise ValueError(
                f"there is no {self.options.monitor!r} to monitor; the steps of the program told {sorted(means)}"
            )
        return self.place.watch.see(means[self.options.monitor])

    def _keep(self, *, better: bool) -> None:
        for which in (BEST, LAST) if better else (LAST,):
            self._save(which)

    def _save(self, which: str) -> None:
        self.checkpoints.save(which, self.place, self.meter.spent)

    def _plot(self, split: str, step: int, value: float | None) -> None:
        if value is not None:
            self.place.curve.setdefault(split, []).append((step, value))

    def _draw(self) -> None:
        path = self.options.file("learning.svg") if self.options.curve else None
        if path is None or not self.place.curve:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        values = [y for points in self.place.curve.values() for _, y in points]
        names = {"train": "training", "val": "validation"}
        series = {names[name]: points for name, points in self.place.curve.items()}
        monitor = self.options.monitor
        try:
            draw(series, path, title=f"{monitor} by step", percent=min(values) >= 0 and max(values) <= 1)
        except ModuleNotFoundError as error:
            warn(f"{error}; the numbers are in {self.options.file('metrics.jsonl')}")

    # ---- the end

    def _ended(self, reason: Literal["epochs", "patience", "budget"]) -> Fit:
        place, spent = self.place, self.meter.spent
        # a validation that was cut short is paid for
        self._save(LAST)
        best = self.options.checkpoint(BEST)
        best = best if best is not None and best.exists() else None
        why = {
            "epochs": "all epochs are done",
            "patience": f"nothing better in {place.watch.stale} epochs",
            "budget": f"{spent.tokens:,} of {self.options.max_tokens or 0:,} tokens are spent",
        }
        kept = f"; the best is in {best}" if best else ""
        self.measuring.bar.say(f"Stopped after step {place.step}: {why[reason]}{kept}.")
        return Fit(reason, place.epoch, place.step, place.watch.best, best, spent)

    def _note(self, error: BaseException) -> None:
        if path := self.options.checkpoint(LAST):
            self.checkpoints.charge(self.meter.spent)
            error.add_note(
                f"What was learnt in {self.place.step} steps is in {path}; fit(…, resume={str(path)!r}) goes on there."
            )
