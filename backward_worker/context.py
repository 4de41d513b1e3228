"""What the whole program was judged by, for steps far from its end: the feedback at the root, and what it was said of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from backtalk.prompt import as_text
from backtalk.wire.evaluations import Evaluation
from backtalk.wire.feedback import FeedbackItem
from backtalk.wire.graph import Graph
from backward_worker.gradient import Root, TextGradient
from backward_worker.quote import quote
from backward_worker.step import Step
from backward_worker.tokens import cap_for, cut, estimated
from backward_worker.trace import roots_of

# a text that is cut to less says nothing
_LEAST_TOKENS: Final = 25


@dataclass(frozen=True, slots=True)
class Judged:
    """What the program made in the end, what it serves as, and what was said of it."""

    origin: str
    role: str
    text: str
    said: str


@dataclass(frozen=True, slots=True)
class Context:
    """What the program was judged by, as far as it fits."""

    items: tuple[Judged, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Roots:
    """All feedback of a message, and how many tokens of it a question may show."""

    graph: Graph
    feedback: Sequence[FeedbackItem]
    tokens: int

    def context(self, step: Step[TextGradient], samples: Iterable[int | None]) -> Context | None:
        """Return what stands behind the criticism of some samples; None where the question shows it anyway."""
        found = dict.fromkeys(root for sample in samples for root in roots_of(step, sample))
        far = [root for root in found if self._judges(root) not in step.operation.outputs]
        shown = [self._judged(root) for root in far[: max(1, self.tokens // (2 * _LEAST_TOKENS))]]
        if not shown:
            return None
        cap = cap_for((estimated(text) for one in shown for text in (one.text, one.said)), self.tokens)
        items = tuple(Judged(one.origin, one.role, cut(one.text, cap), cut(one.said, cap)) for one in shown)
        return Context(items, len(far) - len(shown))

    def _judges(self, root: Root) -> str:
        """Return the variable that was judged: of an evaluation that speaks for itself, its prediction."""
        item = self.feedback[root.feedback]
        writer = self.graph.writer(item.variable)
        if item.text is None and isinstance(writer, Evaluation):
            return writer.inputs[0]
        return item.variable

    def _judged(self, root: Root) -> Judged:
        item = self.feedback[root.feedback]
        writer = self.graph.writer(item.variable)
        said = item.text[root.item or 0] if isinstance(item.text, tuple) else item.text
        if said is None:
            assert isinstance(writer, Evaluation)
            return self._evaluated(writer, root.item)
        variable = self.graph.index.variables[item.variable]
        origin = f"By {quote(item.source)}" if item.source else "Directly"
        return Judged(origin, variable.role, as_text(variable.value(root.item)), said)

    def _evaluated(self, evaluation: Evaluation, item: int | None) -> Judged:
        prediction = self.graph.index.variables[evaluation.inputs[0]]
        at = item or 0
        score = evaluation.scores[at]
        origin = f"By an evaluation of {quote(evaluation.purpose)}"
        told = "" if score is None else f" with the score {as_text(score)}"
        return Judged(
            origin + told, prediction.role, as_text(prediction.value(item)), evaluation.explanations[at]
        )
