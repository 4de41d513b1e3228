"""How good a prediction is, judged by a model."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backtalk.autodiff.completion import ITEMS_PER_JOB, Response, achat_completion, chat_completion
from backtalk.autodiff.measure import Compared, Evaluated, Measure, Score, Target, recorded_evaluation
from backtalk.autodiff.reply import judgement_in
from backtalk.autodiff.variable import Variable
from backtalk.autodiff.warn import warn
from backtalk.models.client import ModelClient
from backtalk.wire.evaluations import Judge


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

    >>> from backtalk.models.openai import OpenAI
    >>> task = Variable("Is this polite? Reply as JSON with a score of 0 or 1 and an explanation.", role="task")
    >>> shown = Variable("{prediction}", role="answer to be judged")
    >>> judge = [{"role": "system", "content": [task]}, {"role": "user", "content": [shown]}]
    >>> answers = Variable(["Thank you for writing!", "That is ridiculous."], role="answer", requires_grad=True)
    >>> score, explanation = lm_judge_evaluator(OpenAI(), judge, answers, model="gpt-4o")
    >>> score.data, score.grad_fn.name()
    (1, 'JudgeBackward')

    `messages` hold `{prediction}` and, with a target, `{target}`, and should ask for a JSON object with a number as
    `score` and a text as `explanation`. With `eval_mode` gradients go to the prediction, and `explanation.backward()`
    needs no text; without it the judge is trained: gradients go to its messages and inputs, and feedback must say what
    was wrong with its judgement. For the rest see `deterministic_evaluator` and `chat_completion`.

    Raises ValueError where a single judgement cannot be read; in a batch that item has no score, and a PartialWarning
    tells of it.
    """
    measure = Measure.of("judgement by a model", success_fn, reduction_fn, reduction_fn_purpose)
    compared = Compared.of(prediction, target)
    filled = _filled(prediction, target, inputs, eval_mode=eval_mode)
    reply = chat_completion(model_client, messages, filled, items_per_job=items_per_job, **completion_args)
    return _judged(compared, reply, measure, eval_mode=eval_mode)


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
    measure = Measure.of("judgement by a model", success_fn, reduction_fn, reduction_fn_purpose)
    compared = Compared.of(prediction, target)
    filled = _filled(prediction, target, inputs, eval_mode=eval_mode)
    reply = await achat_completion(
        model_client, messages, filled, items_per_job=items_per_job, **completion_args
    )
    return _judged(compared, reply, measure, eval_mode=eval_mode)


def _filled(
    prediction: Variable, target: Target, inputs: Mapping[str, Any] | None, *, eval_mode: bool
) -> dict[str, Any]:
    """Return what fills a judge's messages; a judge in training passes nothing on to what it judges."""
    given = {} if target is None else {"target": target}
    return {"prediction": prediction if eval_mode else prediction.detach(), **given, **(inputs or {})}


def _judged(compared: Compared, reply: Response, measure: Measure, *, eval_mode: bool) -> Evaluated:
    predictions = compared.predictions
    replies = reply.data if isinstance(reply.data, list) else [reply.data]
    if len(replies) != len(predictions):
        raise ValueError(
            f"the messages are a batch of {len(replies)}, the prediction has {len(predictions)}; give both one length"
        )
    scored = [judgement_in(one) if one is not None else None for one in replies]
    unread = sum(judgement is None for judgement in scored)
    if unread and not isinstance(reply.data, list):
        raise ValueError(
            "the judge's reply holds no JSON object with a number as score; ask for one in its messages, or pass "
            'response_format={"type": "json_object"}'
        )
    if unread:
        warn(f"{unread} of {len(replies)} judgements could not be read")
    scores = [one or (None, "") for one in scored]
    return recorded_evaluation(Judge, compared, scores, measure, reply.read(), eval_mode=eval_mode)
