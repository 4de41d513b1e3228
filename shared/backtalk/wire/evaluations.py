"""Steps that measure how good a prediction is: a score and an explanation, for each sample and over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, StrictBool, StrictInt, StrictStr

from backtalk.wire.base import BRANCH, Data, Number, Scalar, absent, tag
from backtalk.wire.operations import One, Sampled, Two
from backtalk.wire.position import Position

_KINDS: Final = {kind: f"{BRANCH}{kind.__name__}" for kind in (bool, int, float)}


def _kind(value: Any) -> str | None:
    return _KINDS.get(type(value))


Score: TypeAlias = Annotated[
    Annotated[StrictBool, tag("bool")] | Annotated[StrictInt, tag("int")] | Annotated[Number, tag("float")],
    Discriminator(
        _kind, custom_error_type="score", custom_error_message="expected a number, a boolean, or null"
    ),
]


class Evaluation(Sampled):
    """Reads a prediction, writes its score and an explanation; what it found is kept sample by sample.

    The explanation is one text. The score is one number, but of a batch without a `reduction` one for each item.
    """

    outputs: Two
    purpose: StrictStr
    scores: Annotated[tuple[Score | None, ...], Field(min_length=1, fail_fast=True)]
    explanations: Annotated[tuple[StrictStr, ...], Field(fail_fast=True)]
    succeeded: Annotated[tuple[StrictBool, ...], Field(fail_fast=True)]
    targets: Annotated[tuple[Scalar | None, ...], Field(fail_fast=True)] | None = Field(
        default=None, exclude_if=absent
    )
    reduction: StrictStr | None = Field(default=None, exclude_if=absent)

    def batch(self, lengths: Mapping[str, int]) -> int | None:
        batch = self.agreed(lengths)
        if batch is not None and self.inputs[0] not in lengths:
            raise ValueError(
                f"inputs/0: {self.inputs[0]!r} is a single prediction, beside a batch of {batch}; give both one length"
            )
        for name, aligned in self._aligned():
            if len(aligned) != (batch or 1):
                raise ValueError(
                    f"{name}: has {len(aligned)} entries; give one for each sample, which makes {batch or 1}"
                )
        return batch

    def _aligned(self) -> Iterator[tuple[str, Sequence[Any]]]:
        yield "scores", self.scores
        yield "explanations", self.explanations
        yield "succeeded", self.succeeded
        if self.targets is not None:
            yield "targets", self.targets

    def written(self, batch: int | None) -> Mapping[str, int | None]:
        score, explanation = self.outputs
        return {score: batch if self.reduction is None else None, explanation: None}

    def check(self, data: Sequence[Data]) -> None:
        score, explanation = data
        if not isinstance(explanation, str):
            raise ValueError(f"outputs: {self.outputs[1]!r} is no text; the second output is the explanation")
        if any(isinstance(one, str) for one in (score if isinstance(score, tuple) else (score,))):
            raise ValueError(f"outputs: {self.outputs[0]!r} is no number; the first output is the score")


class Evaluate(Evaluation):
    """Measured by the program itself."""

    op: Literal["evaluate"] = "evaluate"
    inputs: One


class Judge(Evaluation):
    """Measured by a model: it reads the prediction, and the reply of that model.

    In `eval_mode` a gradient passes to the prediction alone, otherwise to the reply alone: the judge is trained.
    """

    op: Literal["judge"] = "judge"
    inputs: Two
    eval_mode: StrictBool = True

    def positions(self) -> tuple[Position, ...]:
        at = 0 if self.eval_mode else 1
        return (Position(f"inputs/{at}", None, self.inputs[at]),)

    @property
    def beside(self) -> tuple[str, ...]:
        return (self.inputs[1 if self.eval_mode else 0],)


def explains_itself(operation: object) -> bool:
    """Tell whether an operation needs no feedback in words: an evaluation, unless it is a judge that is trained."""
    return isinstance(operation, Evaluate) or (isinstance(operation, Judge) and operation.eval_mode)
