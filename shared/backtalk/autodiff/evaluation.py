"""How good a prediction is: measured here or judged by a model, and recorded, so that feedback can start from it."""

from __future__ import annotations

import builtins
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from backtalk.autodiff.completion import ITEMS_PER_JOB, Response, achat_completion, chat_completion
from backtalk.autodiff.operations import recorded
from backtalk.autodiff.reply import judgement_in
from backtalk.autodiff.values import Scalar
from backtalk.autodiff.variable import Variable
from backtalk.autodiff.warn import PartialWarning
from backtalk.models.client import ModelClient
from backtalk.wire.evaluations import Evaluate, Judge

Score: TypeAlias = int | float
Scored: TypeAlias = tuple[Score | None, str]
Target: TypeAlias = "Scalar | Sequence[Scalar] | Variable | None"
Evaluated: TypeAlias = tuple[Variable, Variable]

_EXACT: Final = "exact match"
_JUDGED: Final = "judgement by a model"


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
        return self.reduce([score for score in scores if score is not None])


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
    predictions, targets = _pairs(prediction, target)
    there = [at for at, item in enumerate(predictions) if item is not None]
    if per_batch:
        results = list(eval_fn([predictions[at] for at in there], [targets[at] for at in there]))
        if len(results) != len(there):
            raise ValueError(
                f"eval_fn returned {len(results)} scores for {len(there)} items; return one for each"
            )
    else:
        results = [eval_fn(predictions[at], targets[at]) for at in there]
    measure = Measure.of(eval_fn_purpose, success_fn, reduction_fn, reduction_fn_purpose)
    scored: list[Scored] = [(None, "")] * len(predictions)
    for at, result in zip(there, results, strict=True):
        scored[at] = _scored(result, predictions[at], targets[at], measure)
    return _recorded(Evaluate, (prediction,), scored, measure, targets=_kept(targets))


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
        _EXACT,
        lambda scores: all(score == 1 for score in scores),
        reduction_fn,
        reduction_fn_purpose,
    )


def lm_judge_evaluator(
    model_client: ModelClient,
    messages: Sequence[Mapping[str, Any]],
    prediction: Variable,
    target: Target = None,
    inputs: Mapping[str, Any] | None = None,
    success_fn: Callable[[list[Score]], bool] | None = None,
    reduction_fn: Callable[[list[Score]], Score] | None = builtins.sum,
    reduction_fn_purpose: str | Variable | None = "summation",
    *,
    eval_mode: bool = True,
    items_per_job: int = ITEMS_PER_JOB,
    **completion_args: Any,
) -> Evaluated:
    """Return score and explanation of a prediction by a model.

    `messages` hold `{prediction}` and, with a target, `{target}`, and should ask for a JSON object with a number as
    `score` and a text as `explanation`. With `eval_mode` gradients go to the prediction, and `explanation.backward()`
    needs no text; without it the judge is trained: gradients go to its messages and inputs, and feedback must say what
    was wrong with its judgement. For the rest see `deterministic_evaluator` and `chat_completion`.

    Raises ValueError where a single judgement cannot be read; in a batch that item has no score, and a PartialWarning
    tells of it.
    """
    measure = Measure.of(_JUDGED, success_fn, reduction_fn, reduction_fn_purpose)
    filled = _judge_inputs(prediction, target, inputs)
    reply = chat_completion(model_client, messages, filled, items_per_job=items_per_job, **completion_args)
    return _judged(prediction, target, reply, measure, eval_mode=eval_mode)


async def alm_judge_evaluator(
    model_client: ModelClient,
    messages: Sequence[Mapping[str, Any]],
    prediction: Variable,
    target: Target = None,
    inputs: Mapping[str, Any] | None = None,
    success_fn: Callable[[list[Score]], bool] | None = None,
    reduction_fn: Callable[[list[Score]], Score] | None = builtins.sum,
    reduction_fn_purpose: str | Variable | None = "summation",
    *,
    eval_mode: bool = True,
    items_per_job: int = ITEMS_PER_JOB,
    **completion_args: Any,
) -> Evaluated:
    """Do what `lm_judge_evaluator` does, without blocking the event loop."""
    measure = Measure.of(_JUDGED, success_fn, reduction_fn, reduction_fn_purpose)
    filled = _judge_inputs(prediction, target, inputs)
    reply = await achat_completion(
        model_client, messages, filled, items_per_job=items_per_job, **completion_args
    )
    return _judged(prediction, target, reply, measure, eval_mode=eval_mode)


def _judge_inputs(prediction: Variable, target: Target, inputs: Mapping[str, Any] | None) -> dict[str, Any]:
    _pairs(prediction, target)
    given = {} if target is None else {"target": target}
    return {"prediction": prediction, **given, **(inputs or {})}


def _judged(
    prediction: Variable, target: Target, reply: Response, measure: Measure, *, eval_mode: bool
) -> Evaluated:
    predictions, targets = _pairs(prediction, target)
    replies = reply.data if isinstance(reply.data, list) else [reply.data]
    if len(replies) != len(predictions):
        raise ValueError(
            f"the messages are a batch of {len(replies)}, the prediction has {len(predictions)}; give both one length"
        )
    scored = [judgement_in(one) if one is not None else None for one in replies]
    unread = [one for one, judgement in zip(replies, scored, strict=True) if judgement is None]
    if unread and not isinstance(prediction.data, list):
        raise ValueError(
            "the judge's reply holds no JSON object with a number as score; ask for one in its messages, or pass "
            'response_format={"type": "json_object"}'
        )
    if unread:
        warnings.warn(
            f"{len(unread)} of {len(replies)} judgements could not be read", PartialWarning, stacklevel=3
        )
    return _recorded(
        Judge,
        (prediction, reply),
        [one or (None, "") for one in scored],
        measure,
        targets=None if target is None else _kept(targets),
        eval_mode=eval_mode,
    )


def _recorded(
    kind: type[Evaluate | Judge],
    read: tuple[Variable, ...],
    scored: Sequence[Scored],
    measure: Measure,
    **fields: Any,
) -> Evaluated:
    prediction = read[0]
    scores = tuple(score for score, _ in scored)
    explanations = tuple(explanation for _, explanation in scored)
    batch = isinstance(prediction.data, list)
    total = measure.total(scores) if batch else scores[0]
    if not isinstance(total, int | float | list):
        raise TypeError(f"reduction_fn returned {type(total).__name__}; a score must be a number")
    told = explanations[0]
    if batch:
        result = f", by {measure.reduction}: {total}" if measure.reduction else ""
        told = f"{measure.purpose} of {len(scores)} items{result}"
    score, explanation = recorded(
        kind,
        read,
        (total, told),
        tuple(f"evaluation result {what} of {prediction.role}" for what in ("score", "explanation")),
        purpose=measure.purpose,
        scores=scores,
        explanations=explanations,
        succeeded=measure.succeeded(scores),
        reduction=measure.reduction if batch else None,
        **fields,
    )
    return score, explanation


def _scored(result: Any, prediction: Scalar, target: Scalar | None, measure: Measure) -> Scored:
    score, explanation = result if isinstance(result, tuple) else (result, None)
    if not isinstance(score, int | float):
        raise TypeError(f"eval_fn returned {type(score).__name__}; a score must be a number")
    if explanation is None:
        wanted = "" if target is None else f" The target is {_json(target)}."
        explanation = f"{measure.purpose}: the score of {_json(prediction)} is {_json(score)}.{wanted}"
    return (int(score) if isinstance(score, bool) else score), str(explanation)


def _pairs(prediction: Variable, target: Target) -> tuple[list[Any], list[Any]]:
    """Return the items of prediction and target. Raises ValueError where their shapes differ."""
    if not isinstance(prediction, Variable):
        raise TypeError(f"the prediction must be a Variable, not {type(prediction).__name__}")
    found = prediction.data
    wanted = target.data if isinstance(target, Variable) else target
    if not isinstance(found, list):
        if isinstance(wanted, list | tuple):
            raise ValueError(f"one prediction, but {len(wanted)} targets; give one target")
        return [found], [wanted]
    if wanted is None:
        return found, [None] * len(found)
    if not isinstance(wanted, list | tuple) or len(wanted) != len(found):
        count = len(wanted) if isinstance(wanted, list | tuple) else "one"
        raise ValueError(f"{len(found)} predictions, but {count} targets; give one for each")
    return found, list(wanted)


def _kept(targets: Sequence[Any]) -> tuple[Any, ...] | None:
    return None if all(target is None for target in targets) else tuple(targets)


def _words(words: str | Variable | None) -> str | None:
    return str(words.data) if isinstance(words, Variable) else words


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
