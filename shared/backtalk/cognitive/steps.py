"""Steps that a program takes itself, as modules. They ask nobody, so awaiting them only saves the thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backtalk import functional
from backtalk.autodiff.measure import Evaluated, Target
from backtalk.autodiff.variable import Variable
from backtalk.cognitive.module import Module


class Local(Module):
    """A module that needs no thread to be awaited."""

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)


class Add(Local):
    """Adds two Variables; see `backtalk.functional.add`."""

    def forward(self, x: Variable, y: Variable) -> Variable:
        """Return two texts one behind the other, or the sum of two numbers."""
        return functional.add(x, y)


class Sum(Local):
    """Sums Variables; see `backtalk.functional.sum`."""

    def forward(self, variables: Sequence[Variable]) -> Variable:
        """Return texts together, each within an ITEM tag, or the sum of numbers."""
        return functional.sum(variables)


class Split(Local):
    """Splits a text; see `backtalk.functional.split`."""

    def forward(
        self, x: Variable, sep: str | Variable | None = None, maxsplit: int | Variable = -1
    ) -> tuple[Variable, ...]:
        """Return the parts of a text between separators."""
        return functional.split(x, sep, maxsplit)


class DeterministicEvaluator(Local):
    """Scores a prediction by a function; see `backtalk.functional.deterministic_evaluator`."""

    def forward(
        self,
        prediction: Variable,
        target: Target,
        eval_fn: Callable[..., Any],
        eval_fn_purpose: str | Variable,
        *options: Any,
        **named: Any,
    ) -> Evaluated:
        """Return score and explanation."""
        return functional.deterministic_evaluator(
            prediction, target, eval_fn, eval_fn_purpose, *options, **named
        )


class ExactMatchEvaluator(Local):
    """Counts exact matches; see `backtalk.functional.exact_match_evaluator`."""

    def forward(self, prediction: Variable, target: Target, *options: Any, **named: Any) -> Evaluated:
        """Return score and explanation."""
        return functional.exact_match_evaluator(prediction, target, *options, **named)
