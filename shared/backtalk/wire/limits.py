"""How large a request may be: the maxima of the wire, which a worker may only tighten, and counts before validation.

What is looked at here is parsed JSON of any shape: what has the wrong type is left for the validation to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from backtalk.wire.base import escape
from backtalk.wire.errors import invalid

Json: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[Json, "Limits"], None]

# far more than any object has whose fields are known; each unknown one costs a kilobyte to tell of
_MOST_FIELDS: Final = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker takes of one request.

    `wire_bytes` as sent, `body_bytes` unpacked; `variables` of all graphs, or texts of a job; `operations` of all
    graphs; `batch` items of a job; `tools` of a job; `choices` is the largest `n`. Bytes, batch and choices are maxima
    of the wire contract as well, which senders know. Of operations there may be ten times as many as anybody records.
    """

    wire_bytes: int = 8 * 1024 * 1024
    body_bytes: int = 64 * 1024 * 1024
    variables: int = 100_000
    operations: int = 100_000
    batch: int = 256
    tools: int = 1_000
    choices: int = 128


CONTRACT: Final = Limits()


def check_job(job: Json, limits: Limits) -> None:
    """Raise Refused where a parsed completion job has more of something than a worker takes."""
    texts = 0
    for at, message in enumerate(_list(job.get("messages"))):
        texts += 1
        content = message.get("content") if isinstance(message, dict) else None
        for item, said in enumerate(_list(content)):
            texts += 1
            _check_batch(said, f"messages/{at}/content/{item}", limits)
    inputs = _object(job.get("inputs"))
    for name, given in inputs.items():
        texts += len(given) if isinstance(given, list) else 1
        _check_batch(given, f"inputs/{escape(name)}", limits)
    _at_most(limits.variables, texts, "messages", "texts in messages and inputs", "VARIABLES")
    _at_most(limits.tools, len(_list(job.get("tools"))), "tools", "tools", "TOOLS")
    choices = job.get("n")
    if isinstance(choices, int) and limits.choices < CONTRACT.choices:
        _at_most(limits.choices, choices, "n", "choices", "CHOICES")
    _check_fields(job, ("backtalk", "tool_templates"))


def check_feedback(feedback: Json, limits: Limits) -> None:
    """Raise Refused where parsed feedback has more of something than a worker takes."""
    given = feedback.get("graph")
    fragments = given if isinstance(given, list) else [given]
    _at_most(limits.operations, len(fragments), "graph", "fragments", "OPERATIONS")
    graphs = [one for one in fragments if isinstance(one, dict)]
    for kind, limit in (("variables", limits.variables), ("operations", limits.operations)):
        _at_most(limit, sum(len(_list(one.get(kind))) for one in graphs), f"graph/{kind}", kind, kind.upper())
    items = _list(feedback.get("feedback"))
    _at_most(limits.variables, len(items), "feedback", "criticisms", "VARIABLES")
    _at_most(limits.variables, len(_list(feedback.get("wrt"))), "wrt", "ids", "VARIABLES")
    _few_fields("body", feedback)
    _check_fields(feedback, ("backtalk", "policy"))
    for one in graphs:
        _few_fields("graph", one)
        for entry in _entries(one):
            _few_fields("graph", entry)
            _at_most(limits.variables, len(_object(entry.get("inputs"))), "graph", "inputs", "VARIABLES")
    for entry in items:
        if isinstance(entry, dict):
            _few_fields("feedback", entry)


def _entries(graph: Json) -> Iterator[Json]:
    for kind in ("variables", "operations"):
        yield from (entry for entry in _list(graph.get(kind)) if isinstance(entry, dict))


def _check_batch(given: Any, path: str, limits: Limits) -> None:
    """Look at a list, or at the list in a Variable; what passes the contract, the validation tells."""
    strict = limits.batch < CONTRACT.batch
    if isinstance(given, list):
        if strict:
            _at_most(limits.batch, len(given), path, "items", "BATCH")
        for item in given:
            if isinstance(item, dict):
                _few_fields(path, item)
    elif isinstance(given, dict) and "type" not in given:
        _few_fields(path, given)
        if strict:
            _at_most(limits.batch, len(_list(given.get("data"))), path, "items", "BATCH")


def _check_fields(request: Json, names: Iterable[str]) -> None:
    for name in names:
        _few_fields(name, _object(request.get(name)))


def _few_fields(path: str, given: Json) -> None:
    if len(given) > _MOST_FIELDS:
        raise invalid(path, f"an object has {len(given)} fields; leave out those that are not known")


def _at_most(limit: int, count: int, path: str, what: str, setting: str) -> None:
    if count > limit:
        raise invalid(
            path,
            f"{count} {what} are more than {limit}; send less at once, or raise BACKTALK_MAX_{setting}",
            limit=limit,
            found=count,
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


CHECKS: Final[Mapping[str, Check]] = {"forward": check_job, "backward": check_feedback}
