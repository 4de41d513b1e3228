"""What there is to show of one use of a function of the program's: its words, what it was given, what it gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from backtalk.prompt import as_text
from backtalk.wire.operations import Function
from backward_worker.criticism import Criticisms, criticisms
from backward_worker.gradient import TextGradient
from backward_worker.reads import Reads, Text
from backward_worker.step import Step


@dataclass(frozen=True, slots=True)
class Given:
    """A value that the function was given, and the parameter it was given as.

    `same`: it is that of the sample shown first, and not shown again.
    """

    parameter: str
    path: str
    role: str
    text: str
    same: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """All that is shown of one use of a function; the same for every input that is asked about.

    Where the function `failed`, `output` is the error. `description` is None behind the sample shown first.
    """

    name: str
    description: str | None
    given: tuple[Given, ...]
    role: str
    output: str
    failed: bool
    said: Criticisms
    texts: tuple[Text, ...]

    def after(self, first: Self) -> Self:
        """Return what is left to show behind the first sample: what is the same is not shown again."""
        given = tuple(
            replace(mine, text="", same=True) if mine == its else mine
            for mine, its in zip(self.given, first.given, strict=True)
        )
        return replace(self, description=None, given=given)


def uses(step: Step[TextGradient], reads: Reads) -> Callable[[int | None], Use]:
    """Return what there is to show of each sample of a step."""
    operation, variables = step.operation, step.graph.index.variables
    assert isinstance(operation, Function)

    def use(sample: int | None) -> Use:
        wanted = reads.wanted(sample)
        given = tuple(
            Given(
                parameter,
                position.path,
                variables[position.variable].role,
                as_text(variables[position.variable].value(sample)),
            )
            for parameter, position in zip(operation.parameters, reads.all, strict=True)
        )
        output, error = variables[operation.outputs[0]], operation.error(sample)
        return Use(
            name=operation.name,
            description=operation.description,
            given=given,
            role=output.role,
            output=as_text(output.value(sample)) if error is None else error,
            failed=error is not None,
            said=criticisms(step, sample, "output"),
            texts=tuple(Text(one.path, one.role, one.text, one.path in wanted) for one in given),
        )

    return use
