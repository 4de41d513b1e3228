"""What a step of a program came to: where feedback starts, and numbers that tell how good it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from backtalk.autodiff.measure import Evaluation
from backtalk.autodiff.variable import Variable

SCORE: Final = "score"
_LOSS: Final = "loss"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where feedback starts, if anywhere; the metrics of one batch, the mean of its items; and how many items it has."""

    start: Variable | None
    metrics: Mapping[str, float]
    items: int

    @classmethod
    def of(cls, returned: Any, batch: Any) -> Self:
        """Return what `training_step`, `validation_step` or `test_step` returned, read and checked.

        That is an evaluation, `(score, explanation)`, or a Variable, or a dict with one of them as `loss` and numbers
        beside it. Raises TypeError for anything else.
        """
        told = dict(returned) if isinstance(returned, Mapping) else {_LOSS: returned}
        loss = told.pop(_LOSS, None)
        evaluated = isinstance(loss, tuple | list) and len(loss) == 2
        start, scored = (loss[1], loss[0]) if evaluated else (loss, loss)
        if start is not None and not isinstance(start, Variable):
            raise TypeError(
                f"a step returned {type(start).__name__} as its loss; return an evaluation, (score, explanation), "
                "a Variable, or a dict with one of them as 'loss' and numbers beside it"
            )
        metrics = {name: _number(value, name) for name, value in told.items()}
        score = _score(scored) if isinstance(scored, Variable) else None
        if score is not None:
            metrics = {SCORE: score, **metrics}
        return cls(start, metrics, _items(batch) or 1)


def _score(variable: Variable) -> float | None:
    """Return the mean score of the items, however the evaluation made one of them; None for what is no score."""
    data = variable.data
    listed = data if isinstance(data, list) else [data]
    found = variable.scores if isinstance(variable, Evaluation) else listed
    there = [float(one) for one in found if isinstance(one, int | float)]
    return sum(there) / len(there) if there else None


def _number(value: Any, name: str) -> float:
    number = value.data if isinstance(value, Variable) else value
    if not isinstance(number, int | float) or not math.isfinite(number):
        found = repr(number) if isinstance(number, float) else type(number).__name__
        raise TypeError(f"{name!r} of a step is {found}; beside 'loss' there may be finite numbers only")
    return float(number)


def _items(batch: Any) -> int | None:
    """Return the length of the first list in a batch."""
    data = batch.data if isinstance(batch, Variable) else batch
    if isinstance(data, list):
        return len(data)
    fields = data.values() if isinstance(data, Mapping) else data if isinstance(data, tuple) else ()
    return next((found for field in fields if (found := _items(field))), None)
