"""What was sent, what of it the broker confirmed, and everything that came back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from benchmarks.chaos.messages import Message


@dataclass(frozen=True, slots=True)
class Answer:
    """A terminal answer as it arrived; `code` is that of its error, or empty."""

    message_id: str
    status: str
    code: str = ""


@dataclass
class Ledger:
    """The books of one run, by message id."""

    sent: dict[str, Message] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    sent_again: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    # by id, the reason with which a message lies in a dead queue
    filed: dict[str, str] = field(default_factory=dict)
    chunks: int = 0
    redelivered: int = 0

    def answered(self, id: str, answer: Answer, *, redelivered: bool) -> None:
        """Note an answer; one that only the broker brought again is no repeat of a worker's."""
        known = self.answers.setdefault(id, [])
        if redelivered and answer in known:
            self.redelivered += 1
        else:
            known.append(answer)

    @property
    def open(self) -> list[str]:
        """The confirmed messages that wait for their answer."""
        return [id for id in self.confirmed if id not in self.answers and self.sent[id].reply]

    @property
    def statuses(self) -> Counter[str]:
        """How many messages were answered first with each status and code."""
        firsts = (answers[0] for answers in self.answers.values())
        return Counter(f"{first.status} {first.code}".strip() for first in firsts)

    @property
    def repeats(self) -> int:
        return sum(len(answers) - 1 for answers in self.answers.values())

    @property
    def changed(self) -> list[str]:
        """The messages whose later answers say something else than the first: failed, then completed."""
        return [id for id, answers in self.answers.items() if len({answer.status for answer in answers}) > 1]
