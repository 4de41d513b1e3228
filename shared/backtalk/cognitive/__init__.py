"""Programs as modules: what they hold that may learn, and what they do."""

from backtalk import functional
from backtalk.autodiff import Parameter
from backtalk.cognitive.chat import ChatCompletion, LMJudgeEvaluator
from backtalk.cognitive.module import Module
from backtalk.cognitive.steps import Add, DeterministicEvaluator, ExactMatchEvaluator, Split, Sum

__all__ = [
    "Add",
    "ChatCompletion",
    "DeterministicEvaluator",
    "ExactMatchEvaluator",
    "LMJudgeEvaluator",
    "Module",
    "Parameter",
    "Split",
    "Sum",
    "functional",
]
