"""The loop around a program that learns: epochs, validation, checkpoints, metrics, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backtalk.cognitive import Module
from backtalk.models.client import ModelClient
from backtalk.trainer.bar import Bar, shown
from backtalk.trainer.checkpoints import Checkpoints, load_agent
from backtalk.trainer.doing import Awaiting, Blocking, Doing, Optimizer, finished
from backtalk.trainer.fitting import Fit, Fitting
from backtalk.trainer.journal import Journal, Split
from backtalk.trainer.measuring import Batches, Measuring, step_of
from backtalk.trainer.options import BEST, LAST, Options
from backtalk.trainer.outcome import SCORE
from backtalk.trainer.place import Place
from backtalk.trainer.watch import Mode


class Trainer:
    """Teaches a program by batches.

    >>> import tempfile
    >>> from backtalk import Parameter, Variable, cognitive as cog, functional as F
    >>> from backtalk.data import DataLoader
    >>> from backtalk.models.openai import OpenAI
    >>> from backtalk.optim import TGD
    >>> client = OpenAI(model="gpt-4o")
    >>> class Translator(cog.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.prompt = Parameter("Translate into Italian.", role="system prompt")
    ...         self.chat = cog.ChatCompletion()
    ...     def forward(self, words):
    ...         said = [{"role": "system", "content": [self.prompt]}, {"role": "user", "content": [words]}]
    ...         return self.chat(client, said)
    ...     def training_step(self, batch, batch_idx):
    ...         words, targets = batch
    ...         return F.exact_match_evaluator(self(words), targets)
    ...     def configure_optimizers(self):
    ...         return TGD(self.parameters(), client)
    >>> words = DataLoader([("Hello", "CIAO"), ("Thanks", "GRAZIE")], batch_size=2)
    >>> trainer = Trainer(max_epochs=2, directory=tempfile.mkdtemp(), enable_progress_bar=False)
    >>> trainer.fit(Translator(), words, words).best
    1.0

    The program says in `training_step(batch, batch_idx)` what a batch came to: it returns an evaluation, `(score,
    explanation)`, or a dict with it as `loss` and numbers beside it. Feedback starts at the explanation. In
    `validation_step` and `test_step`, which by default are the same, nothing is learnt. `configure_optimizers()`
    returns what learns, one or a list.

    Learning ends after `max_epochs`, when `monitor` (the mean score of all items, or a number of the program's) has not
    improved by more than `min_delta` for `patience` epochs, or before a step when `max_tokens` are spent. It is measured
    in validation, by default also before the first step (`baseline`), else in training. `directory` gets `best.json` and
    `last.json`, `metrics.jsonl` and `learning.svg`; None keeps nothing.
    """

    def __init__(
        self,
        max_epochs: int = 1,
        *,
        max_tokens: int | None = None,
        monitor: str = SCORE,
        mode: Mode = "max",
        patience: int | None = None,
        min_delta: float = 0.0,
        baseline: bool = True,
        directory: str | Path | None = "checkpoint",
        enable_checkpointing: bool = True,
        enable_progress_bar: bool = True,
        enable_learning_curve: bool = True,
    ) -> None:
        self.options = Options(
            max_epochs=max_epochs,
            max_tokens=max_tokens,
            monitor=monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            baseline=baseline,
            directory=None if directory is None else Path(directory),
            checkpointing=enable_checkpointing,
            bar=enable_progress_bar,
            curve=enable_learning_curve,
        )

    # ---- learning

    def fit(
        self,
        agent: Module,
        train_dataloader: Batches,
        val_dataloader: Batches | None = None,
        llm_clients: Sequence[ModelClient] | None = None,
        *,
        resume: str | Path | None = None,
    ) -> Fit:
        """Teach a program, and return how that ended; it is left as it was after the last step, not after the best.

        Tokens are counted of `llm_clients`, by default of all calls of this process. `resume` goes on from a checkpoint,
        in the middle of its epoch. An error, and Ctrl-C, is raised with a note that names the last checkpoint.
        """
        return finished(self._fit(Blocking(), agent, train_dataloader, val_dataloader, llm_clients, resume))

    async def afit(
        self,
        agent: Module,
        train_dataloader: Batches,
        val_dataloader: Batches | None = None,
        llm_clients: Sequence[ModelClient] | None = None,
        *,
        resume: str | Path | None = None,
    ) -> Fit:
        """Do what `fit` does, without blocking the event loop; the program's steps may be coroutine functions."""
        return await self._fit(Awaiting(), agent, train_dataloader, val_dataloader, llm_clients, resume)

    async def _fit(
        self,
        doing: Doing,
        agent: Module,
        train: Batches,
        val: Batches | None,
        clients: Sequence[ModelClient] | None,
        resume: str | Path | None,
    ) -> Fit:
        step_of(agent, "train")
        optimizers = _optimizers(agent)
        checkpoints = Checkpoints(self.options, agent, optimizers)
        if resume is None:
            checkpoints.set_aside()
        place = Place(self.options.watch()) if resume is None else checkpoints.restore(resume)
        agent.train()
        with Bar(shown=self.options.bar) as bar:
            measuring = self._measuring(agent, doing, bar, place, clients)
            with measuring.metered(place.earlier) as meter:
                fitting = Fitting(self.options, measuring, optimizers, checkpoints, place)
                return await fitting.run(train, val, meter)

    # ---- measuring

    def validate(
        self,
        agent: Module,
        val_dataloader: Batches,
        llm_clients: Sequence[ModelClient] | None = None,
        *,
        checkpoint: str | Path | None = None,
    ) -> dict[str, float]:
        """Return the metrics of a program on validation data: the mean of all items.

        `checkpoint` is what the program takes first: "best", "last", or the path of another.
        """
        return finished(self._measure("val", Blocking(), agent, val_dataloader, llm_clients, checkpoint))

    async def avalidate(
        self,
        agent: Module,
        val_dataloader: Batches,
        llm_clients: Sequence[ModelClient] | None = None,
        *,
        checkpoint: str | Path | None = None,
    ) -> dict[str, float]:
        """Do what `validate` does, without blocking the event loop."""
        return await self._measure("val", Awaiting(), agent, val_dataloader, llm_clients, checkpoint)

    def test(
        self,
        agent: Module,
        test_dataloader: Batches,
        llm_clients: Sequence[ModelClient] | None = None,
        *,
        checkpoint: str | Path | None = None,
    ) -> dict[str, float]:
        """Return the metrics of a program on data that nothing was decided by; as `validate` otherwise."""
        return finished(self._measure("test", Blocking(), agent, test_dataloader, llm_clients, checkpoint))

    async def atest(
        self,
        agent: Module,
        test_dataloader: Batches,
        llm_clients: Sequence[ModelClient] | None = None,
        *,
        checkpoint: str | Path | None = None,
    ) -> dict[str, float]:
        """Do what `test` does, without blocking the event loop."""
        return await self._measure("test", Awaiting(), agent, test_dataloader, llm_clients, checkpoint)

    async def _measure(
        self,
        split: Split,
        doing: Doing,
        agent: Module,
        loader: Batches,
        clients: Sequence[ModelClient] | None,
        checkpoint: str | Path | None,
    ) -> dict[str, float]:
        if checkpoint is not None:
            load_agent(agent, self._checkpoint(checkpoint))
        place = Place(self.options.watch())
        what = {"val": "validation", "test": "test"}[split]
        with Bar(shown=self.options.bar) as bar:
            bar.begin(what, len(loader))
            measuring = self._measuring(agent, doing, bar, place, clients)
            with measuring.metered() as meter:
                means = await measuring.evaluate(split, loader, place, meter, lambda: None)
            bar.say(f"{what}: {shown(means)}")
        return means

    # ---- what both need

    def _measuring(
        self,
        agent: Module,
        doing: Doing,
        bar: Bar,
        place: Place,
        clients: Sequence[ModelClient] | None,
    ) -> Measuring:
        return Measuring(agent, doing, bar, Journal(self.options.file("metrics.jsonl"), place.run), clients)

    def _checkpoint(self, told: str | Path) -> str | Path:
        path = self.options.checkpoint(str(told)) if told in {BEST, LAST} else told
        if path is None:
            raise ValueError(
                f"this Trainer keeps no checkpoints, so there is no {told!r}; give it a directory"
            )
        return path


def _optimizers(agent: Module) -> list[Optimizer]:
    """Return what a program configures. Raises TypeError where it does not, ValueError for none."""
    configure = getattr(agent, "configure_optimizers", None)
    if not callable(configure):
        raise TypeError(
            f"{type(agent).__name__} has no configure_optimizers(); define one that returns a TGD"
        )
    told: Any = configure()
    found: list[Optimizer] = list(told) if isinstance(told, list | tuple) else [told]
    if not found or None in found:
        raise ValueError(
            "configure_optimizers() returned nothing that learns; return a TGD, or a list of them"
        )
    return found
