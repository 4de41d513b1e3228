"""Modules that ask models; what they are called with is kept in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from backtalk import functional
from backtalk.autodiff.completion import ITEMS_PER_JOB, Response
from backtalk.autodiff.measure import Evaluated, Target
from backtalk.autodiff.variable import Variable
from backtalk.cognitive.module import Module
from backtalk.models.client import ModelClient, check_no_secrets

# part of the program, and may hold Variables
_NOT_SAVED: Final = frozenset(
    {
        *("tools", "tool_choice", "tool_templates", "backtalk", "items_per_job"),
        *("success_fn", "reduction_fn", "reduction_fn_purpose", "eval_mode"),
    }
)


class Asking(Module):
    """A module that asks a model. `completion_args` are the arguments of calls that do not say them."""

    def __init__(self, *, items_per_job: int = ITEMS_PER_JOB, **completion_args: Any) -> None:
        super().__init__()
        check_no_secrets(completion_args)
        self.items_per_job = items_per_job
        self.completion_args: dict[str, Any] = completion_args
        self._last: dict[str, Any] = {}

    def extra_state(self) -> dict[str, Any]:
        """Return the arguments of the last call that could be made, which a loaded module takes for its own."""
        kept = _saved(self._last or self.completion_args)
        return {"completion_args": kept} if kept else {}

    def check_extra_state(self, state: Any) -> None:
        if not isinstance(state, Mapping) or not isinstance(state.get("completion_args"), Mapping):
            raise ValueError("completion_args are missing")
        check_no_secrets(state["completion_args"])

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self.check_extra_state(state)
        self.completion_args |= _saved(state["completion_args"])
        self._last = {}

    def merged(self, completion_args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call."""
        return {"items_per_job": self.items_per_job, **self.completion_args, **completion_args}

    def remember(self, told: Mapping[str, Any]) -> None:
        """Keep the arguments of a call that could be made."""
        self._last = _saved(told)


def _saved(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in _NOT_SAVED}


class ChatCompletion(Asking):
    """Asks a model; see `backtalk.functional.chat_completion`.

    >>> from backtalk.models.openai import OpenAI
    >>> chat = ChatCompletion(model="gpt-4o", temperature=0)
    >>> messages = [{"role": "user", "content": [Variable("Translate 'Hello' to {language}.", role="question")]}]
    >>> chat(OpenAI(), messages, inputs={"language": "Italian"}).data
    'Ciao'
    """

    def forward(
        self,
        forward_model_client: ModelClient,
        messages: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any] | None = None,
        **completion_args: Any,
    ) -> Response:
        """Return the model's answer: a text, or for a batch a list of texts."""
        told = self.merged(completion_args)
        response = functional.chat_completion(forward_model_client, messages, inputs, **told)
        self.remember(told)
        return response

    async def aforward(
        self,
        forward_model_client: ModelClient,
        messages: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any] | None = None,
        **completion_args: Any,
    ) -> Response:
        """Do the same without blocking the event loop."""
        told = self.merged(completion_args)
        response = await functional.achat_completion(forward_model_client, messages, inputs, **told)
        self.remember(told)
        return response

    if TYPE_CHECKING:
        # a call is a forward call: type checkers see what comes of it
        __call__ = forward
        acall = aforward


class LMJudgeEvaluator(Asking):
    """Scores a prediction by a model; see `backtalk.functional.lm_judge_evaluator`."""

    def forward(
        self,
        model_client: ModelClient,
        messages: Sequence[Mapping[str, Any]],
        prediction: Variable,
        target: Target = None,
        inputs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Evaluated:
        """Return score and explanation."""
        told = self.merged(options)
        evaluated = functional.lm_judge_evaluator(model_client, messages, prediction, target, inputs, **told)
        self.remember(told)
        return evaluated

    async def aforward(
        self,
        model_client: ModelClient,
        messages: Sequence[Mapping[str, Any]],
        prediction: Variable,
        target: Target = None,
        inputs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Evaluated:
        """Do the same without blocking the event loop."""
        told = self.merged(options)
        evaluated = await functional.alm_judge_evaluator(
            model_client, messages, prediction, target, inputs, **told
        )
        self.remember(told)
        return evaluated

    if TYPE_CHECKING:
        __call__ = forward
        acall = aforward
