"""Results on their way to disk: one line for each request, whatever comes twice, and noted before it is acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import time
from typing import Final, Self

from backtalk.batches.lines import CANCELLED, EXPIRED, cost, error_line, instead, result_line
from backtalk.batches.outputs import Outputs
from backtalk.batches.state import Line, Result, Status
from backtalk.batches.store import Store
from backtalk.client.inbox import AnyAnswer
from backtalk.wire.jobs import CompletionResult

# more digits than any file has lines, and fewer than SQLite has for a number
_MOST_DIGITS: Final = 15
_log = logging.getLogger(__name__)


def request_id(batch: str, number: int) -> str:
    """Return the id under which a line is sent."""
    return f"{batch}-{number}"


def number_of(id: str, batch: str) -> int | None:
    """Return the number of the line that was sent under an id; None for what is no id of the batch."""
    start, _, number = id.rpartition("-")
    good = start == batch and len(number) <= _MOST_DIGITS and number.isascii() and number.isdecimal()
    return int(number) if good else None


class Ledger:
    """Writes the results of a batch. Use it as a context manager, in one process at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outputs = Outputs(store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._outputs.__exit__(*exc)

    def take(self, answers: Sequence[AnyAnswer]) -> int:
        """Write answers down and return how many lines had none before; the answers may be acknowledged then."""
        facts = self._store.facts()
        expired = facts.expires_at is not None and time() >= facts.expires_at
        cancelling = facts.status is Status.CANCELLING
        new: dict[int, Result] = {}
        for answer in answers:
            line = self._line_of(answer.id)
            if line is None or line.number in new or not isinstance(answer, CompletionResult):
                _log.debug("dropped answer %s, which is a repeat or none of the batch's", answer.id)
                continue
            new[line.number] = self._written(line, answer, expired=expired, cancelling=cancelling)
        self._note(list(new.values()))
        return len(new)

    def give_up(self, lines: Sequence[Line], *, expired: bool) -> None:
        """Write down that no answer is waited for: the time was over, or else the batch was cancelled."""
        self._note([self._given_up(line, EXPIRED if expired else CANCELLED) for line in lines])

    def _line_of(self, id: str) -> Line | None:
        number = number_of(id, self._store.plan.id)
        return None if number is None else self._store.line(number)

    def _written(self, line: Line, answer: CompletionResult, *, expired: bool, cancelling: bool) -> Result:
        if error := instead(answer, expired=expired, cancelling=cancelling):
            return self._given_up(line, error)
        failed = answer.status == "failed"
        text = result_line(answer, line.custom_id, self._store.plan.form)
        aside, place, end = self._outputs.append(text, failed=failed)
        price = cost(answer, line.endpoint)
        return Result(line.number, failed, aside, place, end, usage=answer.usage, cost=price)

    def _given_up(self, line: Line, error: tuple[str, str]) -> Result:
        id = request_id(self._store.plan.id, line.number)
        aside, place, end = self._outputs.append(error_line(id, line.custom_id, error), failed=True)
        return Result(line.number, failed=True, aside=aside, place=place, end=end, expired=error is EXPIRED)

    def _note(self, results: Sequence[Result]) -> None:
        if results:
            self._outputs.secure()
            self._store.note_results(results)
