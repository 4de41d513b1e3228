"""What pydantic finds wrong, told by path and remedy; the values themselves stay out, they may be secret."""

from __future__ import annotations

import re
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from backtalk.wire.base import BRANCH, escape
from backtalk.wire.errors import Code, Refused
from backtalk.wire.graph import OPS

_MAX_PROBLEMS: Final = 5
_MAX_LOOKED_AT: Final = 50

_REMEDIES: Final = {
    "missing": "is missing; add it",
    "extra_forbidden": "is not known; leave it out, or check the spelling",
    "tuple_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    # the one union that is told apart by a field, and so by Rust: graphs have many operations
    "union_tag_not_found": f"op: is missing; it is one of {', '.join(OPS)}",
    "union_tag_invalid": f"op: expected one of {', '.join(OPS)}",
}
# those whose text names the rest of the path before a colon
_NAMING: Final = frozenset({"value_error", "union_tag_not_found", "union_tag_invalid"})
_OWN_PATH: Final = re.compile(r"([^\s:]+): (.+)", re.DOTALL)


def refusal(error: ValidationError) -> Refused:
    """Return pydantic's findings as a refusal."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_LOOKED_AT]
    # a message of a later version is told as such, whatever else a reader of this version finds odd in it
    unsupported = [problem for problem in problems if problem["type"] == "unsupported_schema_version"]
    told = _without_echoes([_told(problem) for problem in unsupported or problems])
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    path, problem = told[0]
    return Refused(
        Code.UNSUPPORTED_SCHEMA_VERSION if unsupported else Code.INVALID_MESSAGE,
        f"{path}: {problem}{more}",
        path=path,
        problems=[{"path": path, "problem": problem} for path, problem in told[:_MAX_PROBLEMS]],
    )


def _told(problem: ErrorDetails) -> tuple[str, str]:
    """Return path and problem; our own validators name the rest of the path before a colon."""
    steps = [
        escape(str(step))
        for at, step in enumerate(problem["loc"])
        if step != "[key]" and not str(step).startswith(BRANCH) and not _is_op(problem["loc"], at)
    ]
    message = _REMEDIES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if problem["type"] in _NAMING and (own := _OWN_PATH.fullmatch(message)):
        steps.append(own[1])
        message = own[2]
    return "/".join(steps) or "body", message


def _is_op(steps: tuple[int | str, ...], at: int) -> bool:
    """Tell a step that pydantic adds for the kind of an operation: `operations/3/chat_completion/…`."""
    return at > 1 and steps[at - 2] == "operations" and isinstance(steps[at - 1], int)


def _without_echoes(told: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Drop what pydantic says of a list only because an item of it is wrong."""
    return [
        (path, problem)
        for path, problem in told
        if not any(other.startswith(f"{path}/") for other, _ in told)
    ]
