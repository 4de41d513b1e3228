"""What feedback would take under each policy, without asking any model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from backtalk.client.batchfile import BadFile
from backtalk.runtime.settings import Settings
from backtalk.runtime.settings_told import explain
from backtalk.wire.codec import decode
from backtalk.wire.feedback import Feedback
from backtalk.wire.policy import TOGETHER, Policy
from backward_worker.rehearse import Cost, cost_of
from backward_worker.work import Work

_CHOICES: Final = tuple(
    (calls, batch) for batch in ("per_sample", "digest") for calls in ("per_variable", "per_operation")
)


@dataclass(frozen=True, slots=True)
class Planned:
    """What one choice of `calls` and `batch` takes; `asked` marks the one that the feedback asks for."""

    calls: str
    batch: str
    cost: Cost
    asked: bool


async def planned(body: bytes) -> list[Planned]:
    """Return what feedback would take at a worker with our environment.

    Raises BadFile where the environment is wrong, Refused where the feedback is.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise BadFile(explain(error)) from error
    feedback = decode(body, Feedback)
    work = Work.of(feedback, settings.policy)
    named = feedback.model or settings.backward_model
    return [
        Planned(
            calls,
            batch,
            await cost_of(work.under(calls=calls, batch=batch), named, weigh=True),
            (calls, batch) == (work.policy.calls, work.policy.batch),
        )
        for calls, batch in _CHOICES
        # a digest of some of the samples is none
        if feedback.samples is None or batch == "per_sample"
    ]


def table(rows: list[Planned]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    yield f"  {'calls':<14} {'batch':<11} {'calls made':>11} {'one by one':>11} {'at once':>8} {'tokens, about':>14}"
    for row in rows:
        cost = row.cost
        yield (
            f"{'*' if row.asked else ' '} {row.calls:<14} {row.batch:<11} {cost.calls:>11,} {cost.depth:>11,} "
            f"{cost.width:>8,} {cost.tokens:>14,}"
        )


def together() -> str:
    """Return which fields of a policy go together, and the defaults, as a table for people."""
    defaults = Policy()
    lines = [
        f"  {name:<19} {_shown(getattr(defaults, name)):<13} goes with {partners}"
        for name, partners in TOGETHER
    ]
    return "\n".join(["Fields of a policy, their defaults, and what they go with:", *lines])


def _shown(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
