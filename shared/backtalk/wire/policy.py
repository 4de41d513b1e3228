"""How a backward pass spends: which questions are asked, what each is shown, and where it ends."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, StrictBool, StrictInt, model_serializer

from backtalk.wire.base import Frozen, Number
from backtalk.wire.errors import invalid

# which fields go together: printed by `backtalk plan --policies`, and held by `over`, the worker and the client
TOGETHER: Final = (
    ("calls", "everything"),
    ("batch", "everything; but digest not with the feedback's samples, nor with a client's split"),
    ("gate", "feedback items that have a score"),
    ("summary", "everything; but not with a client's split"),
    ("summary_characters", "summary"),
    ("context", "everything"),
    ("context_tokens", "context; at most half of prompt_tokens"),
    ("prompt_tokens", "everything"),
    ("max_calls", "everything"),
    ("max_tokens", "everything"),
)


class Policy(Frozen):
    """What a feedback message asks for; a field that it does not state is the worker's own to decide.

    `calls`: a question for each wanted input, or one for all of an operation. `batch`: a gradient for each sample, or
    one for all samples of what they share. `gate`: from this score on there is nothing to criticise. `summary`: one
    merged text for each variable as well. `context`: every question also shows what was said at the root. Tokens are
    estimates. `max_calls` and `max_tokens` end the spending.
    """

    calls: Literal["per_variable", "per_operation"] = "per_variable"
    batch: Literal["per_sample", "digest"] = "per_sample"
    gate: Number | None = None
    summary: StrictBool = False
    summary_characters: Annotated[StrictInt, Field(ge=100)] = 2000
    context: StrictBool = False
    context_tokens: Annotated[StrictInt, Field(ge=100)] = 1000
    prompt_tokens: Annotated[StrictInt, Field(ge=1000)] = 32_000
    max_calls: Annotated[StrictInt, Field(ge=0)] | None = None
    max_tokens: Annotated[StrictInt, Field(ge=0)] | None = None

    @model_serializer(mode="wrap")
    def _as_stated(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not stated: the default of whoever reads it counts, not ours."""
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}

    def over(self, defaults: Self) -> Self:
        """Return the policy in force, given the worker's own. Raises Refused where fields do not go together."""
        stated = {name: getattr(self, name) for name in self.model_fields_set}
        whole = defaults.model_copy(update=stated)
        if "summary_characters" in stated and not whole.summary:
            raise invalid(
                "policy/summary_characters", "there is no summary to cap; set `summary`, or leave it out"
            )
        if "context_tokens" in stated and not whole.context:
            raise invalid(
                "policy/context_tokens", "there is no context to cap; set `context`, or leave it out"
            )
        if whole.context and 2 * whole.context_tokens > whole.prompt_tokens:
            raise invalid(
                "policy/context_tokens",
                f"{whole.context_tokens} is more than half of the {whole.prompt_tokens} that `prompt_tokens` allows; "
                "give less context, or larger prompts",
            )
        return whole
