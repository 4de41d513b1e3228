"""What becomes of proposals: each is tried, and only when all had their turn is it told what went wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from backtalk.autodiff.variable import Variable
from backtalk.autodiff.warn import warn
from backtalk.optim.groups import Group

ASKED_AT_MOST: Final = 3


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new text for a parameter, or None and why there is none."""

    text: str | None
    why: str = ""


Wanting: TypeAlias = tuple[Group, Variable]
Answer: TypeAlias = "Proposal | BaseException"


def taken(wanting: Sequence[Wanting], asked: Sequence[Answer]) -> Iterator[tuple[Group, Variable, str]]:
    """Yield the parameters that are to have another text, and that."""
    for (group, parameter), answer in zip(wanting, asked, strict=True):
        if isinstance(answer, Proposal) and answer.text is not None and answer.text != parameter.data:
            yield group, parameter, answer.text


@contextmanager
def on_trial(parameter: Variable, text: str, troubles: list[BaseException]) -> Iterator[Variable]:
    """Give a parameter its new text, and yield what it was before, which is back if the trial fails.

    What failed is told when all others had their turn; an interrupt at once.
    """
    before = copy.deepcopy(parameter)
    parameter.data = text
    try:
        yield before
    except BaseException as error:
        parameter.data = before.data
        if not isinstance(error, Exception):
            raise
        troubles.append(_of(parameter, error))


def failures(wanting: Sequence[Wanting], asked: Sequence[Answer]) -> list[BaseException]:
    """Return the calls that failed."""
    return [
        _of(parameter, answer)
        for (_, parameter), answer in zip(wanting, asked, strict=True)
        if isinstance(answer, BaseException)
    ]


def _of(parameter: Variable, error: BaseException) -> BaseException:
    """Return an error with the parameter it concerns."""
    error.add_note(f"while {parameter.role or 'a parameter'!r} was being rewritten")
    return error


def tell(wanting: Sequence[Wanting], asked: Sequence[Answer], troubles: Sequence[BaseException]) -> None:
    """Warn of what stays as it is, and raise the first error, now that everything is settled."""
    try:
        for (_, parameter), answer in zip(wanting, asked, strict=True):
            if isinstance(answer, Proposal) and answer.text is None:
                warn(
                    f"{parameter.role or 'a parameter'!r} stays as it is: {ASKED_AT_MOST} proposals were refused, "
                    f"the last because: {answer.why}"
                )
    finally:
        if troubles:
            raise troubles[0]
