"""Where a backward pass starts: the feedback of a message, checked against its graph, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from backtalk.wire.errors import invalid
from backtalk.wire.evaluations import Evaluation, Judge, explains_itself
from backtalk.wire.feedback import Feedback, FeedbackItem
from backtalk.wire.graph import Graph, Operation
from backward_worker.gradient import EMPTY, UNSAID, Root, TextGradient
from backward_worker.step import Contribution

Seed: TypeAlias = Contribution[TextGradient]


@dataclass(frozen=True, slots=True)
class Seeding:
    """The graph that is judged; `gate` is the score from which on there is nothing to criticise."""

    graph: Graph
    gate: float | None
    samples: tuple[int, int] | None

    def of(self, body: Feedback) -> dict[str, list[Seed]]:
        """Return the gradients of the variables that are criticised. Raises Refused where they contradict the graph."""
        seeds: dict[str, list[Seed]] = {}
        for at, item in enumerate(body.feedback):
            length = self._check(item, f"feedback/{at}")
            seeds.setdefault(item.variable, []).extend(self._of_item(item, at, length))
        return seeds

    def _check(self, item: FeedbackItem, path: str) -> int | None:
        """Return how many samples a variable has, None for a single value, if the item fits it."""
        if item.variable not in self.graph.index.variables:
            raise invalid(
                f"{path}/variable", f"{item.variable!r} is not a variable of the graph; name one that is"
            )
        if item.text is None:
            _check_explained(self.graph.writer(item.variable), item.variable, f"{path}/text")
        items, samples = self._items(item.variable), self.graph.samples(item.variable)
        if isinstance(item.text, tuple):
            _check_length(f"{path}/text", "text", len(item.text), items, item.variable)
        if isinstance(item.score, tuple):
            _check_length(f"{path}/score", "score", len(item.score), samples, item.variable)
        if self.samples is not None and (samples is None or self.samples[1] > samples):
            problem = f"has {samples} items" if samples else "is a single value"
            raise invalid(
                "samples",
                f"ends at {self.samples[1]}, but variable {item.variable!r} {problem}; stay within them",
            )
        return samples

    def _items(self, id: str) -> int | None:
        data = self.graph.index.variables[id].data
        return len(data) if isinstance(data, tuple) else None

    def _score(self, item: FeedbackItem, sample: int | None) -> float | None:
        """Return the score of an item of feedback; an evaluation that explains itself has scores of its own."""
        score = item.score
        if score is None and item.text is None:
            writer = self.graph.writer(item.variable)
            score = writer.scores if isinstance(writer, Evaluation) else None
        return score[sample or 0] if isinstance(score, tuple) else score

    def _of_item(self, item: FeedbackItem, at: int, length: int | None) -> Iterator[Seed]:
        graded = isinstance(item.score, tuple) or (self.gate is not None and item.text is None)
        aligned = isinstance(item.text, tuple) or graded or self.samples is not None
        if not aligned or length is None:
            yield self._seed(item, at, None)
            return
        for sample in range(*(self.samples or (0, length))):
            yield self._seed(item, at, sample)

    def _seed(self, item: FeedbackItem, at: int, sample: int | None) -> Seed:
        text = item.text[sample or 0] if isinstance(item.text, tuple) else item.text
        score = self._score(item, sample)
        root = (Root(at, sample),)
        if text == "" or (self.gate is not None and score is not None and score >= self.gate):
            gradient = EMPTY
        elif text is None:
            gradient = TextGradient(UNSAID.text, UNSAID.how, roots=root)
        else:
            gradient = TextGradient(text, "copied", item.source, roots=root)
        return Contribution(gradient, sample=sample, feedback=(item.id or f"feedback/{at}",))


def wanted_of(graph: Graph, wrt: Sequence[str] | None) -> Sequence[str]:
    """Return the variables whose gradients are wanted: those that are named, else every parameter."""
    if wrt is None:
        return [variable.id for variable in graph.parameters()]
    for at, id in enumerate(wrt):
        if id not in graph.index.variables:
            raise invalid(f"wrt/{at}", f"{id!r} is not a variable of the graph; name one that is")
    return list(dict.fromkeys(wrt))


def _check_length(path: str, what: str, count: int, length: int | None, variable: str) -> None:
    if count != length:
        raise invalid(
            path,
            f"has {count} {what}s, but variable {variable!r} is "
            f"{f'a batch of {length}' if length else 'no batch'}; send one {what} for each item, or a single one",
        )


def _check_explained(writer: Operation | None, id: str, path: str) -> None:
    if isinstance(writer, Judge) and not writer.eval_mode:
        raise invalid(
            path,
            f"is null, but {id!r} was written by a judge that is being trained; "
            "such a judge must be told what was wrong with its judgement",
        )
    if not explains_itself(writer):
        raise invalid(
            path,
            f"is null, but no evaluation of the graph wrote {id!r}, and nothing else explains itself; "
            "say what should change, or join the fragment that holds the evaluation",
        )
