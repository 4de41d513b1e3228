"""The operations of a program as functions; `backtalk.cognitive` has the same as modules."""

from backtalk.autodiff.completion import achat_completion, chat_completion
from backtalk.autodiff.evaluation import deterministic_evaluator, exact_match_evaluator
from backtalk.autodiff.function import Function, FunctionFailed, function
from backtalk.autodiff.judge import alm_judge_evaluator, lm_judge_evaluator
from backtalk.autodiff.operations import add, split, sum  # noqa: A004  what the reference calls it

__all__ = [
    "Function",
    "FunctionFailed",
    "achat_completion",
    "add",
    "alm_judge_evaluator",
    "chat_completion",
    "deterministic_evaluator",
    "exact_match_evaluator",
    "function",
    "lm_judge_evaluator",
    "split",
    "sum",
]
