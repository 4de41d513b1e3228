"""What is common to all evaluations: the items that are compared, what a success is, and how they are recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backtalk.autodiff.recording import Begun
from backtalk.autodiff.steps import Read
from backtalk.autodiff.values import Scalar, items_of, value_of
from backtalk.autodiff.variable import Variable
from backtalk.wire.evaluations import Evaluate, Judge

Score: TypeAlias = int | float
Scored: TypeAlias = tuple[Score | None, str]
Target: TypeAlias = "Scalar | Sequence[Scalar] | Variable | None"
Evaluated: TypeAlias = tuple[Variable, Variable]


class Evaluation(Variable):
    """How good a prediction is: a Variable. `scores` are those of its items, None where one failed."""

    scores: tuple[Score | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured, in words; when that is a success; and how the scores of a batch become one."""

    purpose: str
    success: Callable[[list[Score]], bool] | None
    reduce: Callable[[list[Score]], Score] | None
    reduction: str | None

    @classmethod
    def of(
        cls,
        purpose: str | Variable,
        success_fn: Callable[[list[Score]], bool] | None,
        reduction_fn: Callable[[list[Score]], Score] | None,
        reduction_fn_purpose: str | Variable | None,
    ) -> Measure:
        """Return a measure, checked. Raises ValueError where only one of reduction and its purpose is given."""
        reduction = _words(reduction_fn_purpose)
        if (reduction_fn is None) != (reduction is None):
            raise ValueError("reduction_fn and reduction_fn_purpose go together; give both, or None for both")
        return cls(_words(purpose) or "", success_fn, reduction_fn, reduction)

    def succeeded(self, scores: Sequence[Score | None]) -> tuple[bool, ...]:
        """Tell of each sample whether nothing is left to criticise: all of them, or it by itself, are a success."""
        success = self.success
        if success is None:
            return (False,) * len(scores)
        if None not in scores and success([score for score in scores if score is not None]):
            return (True,) * len(scores)
        return tuple(score is not None and bool(success([score])) for score in scores)

    def total(self, scores: Sequence[Score | None]) -> Any:
        """Return the one score of a batch, or all of them where they stay apart. Failed items do not count."""
        if self.reduce is None:
            return list(scores)
        there = [score for score in scores if score is not None]
        if not there:
            raise ValueError("no item has a score, so there is nothing to reduce; look at what failed before")
        return self.reduce(there)


@dataclass(frozen=True, slots=True)
class Compared:
    """A prediction as it was when its evaluation began, and what each of its items should be."""

    read: Read
    targets: tuple[Any, ...]

    @classmethod
    def of(cls, prediction: Variable, target: Target) -> Compared:
        """Return prediction and targets. Raises ValueError where their shapes differ."""
        if not isinstance(prediction, Variable):
            raise TypeError(f"the prediction must be a Variable, not {type(prediction).__name__}")
        read = prediction.read()
        wanted = target.data if isinstance(target, Variable) else target
        count = len(wanted) if isinstance(wanted, list | tuple) else None
        length = items_of(read.value.data)
        if wanted is not None and count != length:
            told = ["one" if number is None else str(number) for number in (length, count)]
            raise ValueError(
                f"predictions: {told[0]}, targets: {told[1]}; give one target for each prediction"
            )
        if wanted is not None:
            wanted = value_of(wanted, mixed=True)
        return cls(read, wanted if isinstance(wanted, tuple) else (wanted,) * (length or 1))

    @property
    def predictions(self) -> tuple[Any, ...]:
        """The items of the prediction."""
        data = self.read.value.data
        return data if isinstance(data, tuple) else (data,)

    @property
    def kept(self) -> tuple[Any, ...] | None:
        """The targets as they are recorded: None where there are none."""
        return None if all(target is None for target in self.targets) else self.targets


def recorded_evaluation(
    kind: type[Evaluate | Judge],
    compared: Compared,
    scored: Sequence[Scored],
    measure: Measure,
    *more: Read,
    **fields: Any,
) -> Evaluated:
    """Return score and explanation, recorded with what was compared, and what `more` was read for it."""
    prediction = compared.read.value
    scores = tuple(score for score, _ in scored)
    explanations = tuple(explanation for _, explanation in scored)
    batch = isinstance(prediction.data, tuple)
    total = measure.total(scores) if batch else scores[0]
    if not isinstance(total, int | float) and not (measure.reduce is None and isinstance(total, list)):
        raise TypeError(f"reduction_fn returned {type(total).__name__}; a score must be a number")
    told = explanations[0]
    if batch:
        result = f", by {measure.reduction}: {total}" if measure.reduction else ""
        told = f"{measure.purpose} of {len(scores)} items{result}"
    score, explanation = Begun.of((compared.read, *more)).wrote(
        kind,
        (total, told),
        tuple(
            f"evaluation result {what} of {prediction.role or 'a prediction'}"
            for what in ("score", "explanation")
        ),
        purpose=measure.purpose,
        scores=scores,
        explanations=explanations,
        succeeded=measure.succeeded(scores),
        targets=compared.kept,
        reduction=measure.reduction if batch else None,
        **fields,
    )
    read = score.read()
    evaluation = Evaluation.written(read.value, read.step)
    evaluation.scores = scores
    return evaluation, explanation


def _words(words: str | Variable | None) -> str | None:
    return str(words.data) if isinstance(words, Variable) else words
