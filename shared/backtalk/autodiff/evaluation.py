"""How good a prediction is, measured by the program itself."""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Callable
from typing import Any

from backtalk.autodiff.measure import (
    Compared,
    Evaluated,
    Measure,
    Score,
    Scored,
    Target,
    recorded_evaluation,
)
from backtalk.autodiff.reply import sendable
from backtalk.autodiff.values import Scalar
from backtalk.autodiff.variable import Variable
from backtalk.wire.base import shortened
from backtalk.wire.evaluations import Evaluate


def deterministic_evaluator(
    prediction: Variable,
    target: Target,
    eval_fn: Callable[..., Any],
    eval_fn_purpose: str | Variable,
    success_fn: Callable[[list[Score]], bool] | None = None,
    reduction_fn: Callable[[list[Score]], Score] | None = builtins.sum,
    reduction_fn_purpose: str | Variable | None = "summation",
    *,
    per_batch: bool = False,
) -> Evaluated:
    """Return score and explanation of a prediction by a function of the program's own.

    >>> score, explanation = deterministic_evaluator(
    ...     Variable(["a", "bb"], role="words"), ["x", "yy"], lambda p, t: len(p) - len(t), "difference in length"
    ... )
    >>> score.data
    0

    `eval_fn(prediction, target)` gets the data of one item and returns its score, or score and explanation; with
    `per_batch` it gets both lists at once and returns a list. `success_fn(scores)` says whether nothing is left to
    criticise: of all scores, else of each by itself; no gradient starts there. `reduction_fn(scores)` makes one score of
    a batch; None, and None as its purpose, keeps a list. Of the others `explanation.backward()` needs no text.

    Raises ValueError where prediction and target differ in length, TypeError for a score that is no number.
    """
    measure = Measure.of(eval_fn_purpose, success_fn, reduction_fn, reduction_fn_purpose)
    compared = Compared.of(prediction, target)
    predictions, targets = list(compared.predictions), list(compared.targets)
    there = [at for at, item in enumerate(predictions) if item is not None]
    if per_batch:
        results = (
            list(eval_fn([predictions[at] for at in there], [targets[at] for at in there])) if there else []
        )
        if len(results) != len(there):
            raise ValueError(
                f"eval_fn returned {len(results)} scores for {len(there)} items; return one for each"
            )
    else:
        results = [eval_fn(predictions[at], targets[at]) for at in there]
    scored: list[Scored] = [(None, "")] * len(predictions)
    for at, result in zip(there, results, strict=True):
        scored[at] = _scored(result, predictions[at], targets[at], measure)
    return recorded_evaluation(Evaluate, compared, scored, measure)


def exact_match_evaluator(
    prediction: Variable,
    target: Target,
    reduction_fn: Callable[[list[Score]], Score] | None = builtins.sum,
    reduction_fn_purpose: str | Variable | None = "summation",
) -> Evaluated:
    """Return 1 for a prediction that is the target, else 0, and the explanation; of a batch the number of hits.

    >>> score, explanation = exact_match_evaluator(Variable(["Rome", "Paris"]), ["Rome", "Lima"])
    >>> score.data, explanation.data
    (1, 'exact match of 2 items, by summation: 1')

    No gradient starts at a hit.
    """

    def match(found: Scalar, wanted: Scalar) -> tuple[int, str]:
        if found == wanted:
            return 1, f"It is exactly {_json(wanted)}, as it should be."
        return 0, f"It is {_json(found)}; it should be exactly {_json(wanted)}."

    return deterministic_evaluator(
        prediction,
        target,
        match,
        "exact match",
        lambda scores: all(score == 1 for score in scores),
        reduction_fn,
        reduction_fn_purpose,
    )


def _scored(result: Any, prediction: Scalar, target: Scalar | None, measure: Measure) -> Scored:
    score, explanation = result if isinstance(result, tuple) else (result, None)
    if not isinstance(score, int | float):
        raise TypeError(f"eval_fn returned {type(score).__name__}; a score must be a number")
    if not _is_finite(score):
        raise ValueError(f"eval_fn returned {shortened(repr(score), 40)}; a score must be finite")
    if explanation is None:
        wanted = "" if target is None else f" The target is {_json(target)}."
        explanation = f"{measure.purpose}: the score of {_json(prediction)} is {_json(score)}.{wanted}"
    return (int(score) if isinstance(score, bool) else score), sendable(str(explanation))


def _is_finite(score: float) -> bool:
    try:
        return math.isfinite(score)
    except OverflowError:
        return False


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
