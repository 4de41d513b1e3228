"""What feedback takes in memory, at most: a short message can ask for many gradients, and each may repeat what was said.

One walk over the tape, from its end, along the ways that gradients take.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from backtalk.wire.errors import Refused
from backtalk.wire.evaluations import Evaluation
from backtalk.wire.feedback import Feedback, FeedbackItem
from backtalk.wire.graph import ChatCompletion, Graph, Operation, Variable
from backtalk.wire.operations import Function
from backtalk.wire.policy import Policy
from backtalk.wire.position import Position
from backtalk.wire.weight import Shape

# on top of what the values of a message take: a recorded message, a gradient, something that a question shows and more
# while the question is composed, an id that a gradient bears
_MESSAGE: Final = 700
_GRADIENT: Final = 2_600
_SHOWN: Final = 250
_COMPOSED: Final = 800
_BORNE: Final = 120
_QUESTION: Final = 5_000
# characters: around the name of what something was said of, and of the name itself, which is cut; a model's reply is
# taken to be as long
_AROUND_NAME: Final = 400
_MOST_OF_NAME: Final = 300
_REPLY: Final = 4_096
_NUMBER: Final = 24
# prompts that are there at once
_ASKED_AT_ONCE: Final = 256
_TOKEN: Final = 4


def weigh_feedback(feedback: Feedback, shape: Shape, policy: Policy) -> int:
    """Return the bytes that feedback takes until it is answered; `policy` says what it leaves open of its own."""
    try:
        graph = feedback.whole
        policy = (feedback.policy or Policy()).over(policy)
    except Refused:
        # what contradicts itself is refused before anything is made of it
        return shape.worked_on
    walk = _Walk(graph, feedback, policy)
    walk.back()
    prompts = min(walk.questions, _ASKED_AT_ONCE) + bool(walk.questions)
    return (
        shape.worked_on
        + _MESSAGE * sum(len(one.messages) for one in graph.operations if isinstance(one, ChatCompletion))
        + _GRADIENT * (walk.gradients + len(feedback.feedback) + len(feedback.graphs))
        + _SHOWN * (walk.shown + prompts * walk.most_shown)
        + _COMPOSED * walk.most_shown
        + _BORNE * walk.borne
        + _QUESTION * walk.questions
        + shape.width * (walk.copied + walk.kept)
        + prompts * walk.longest_prompt * (8 + 3 * shape.width) // 2
    )


@dataclass
class _Walk:
    """What has been found on the way back; texts are counted in characters.

    `said` is how much is said of one item of a variable, in how many `sayings`, and how many criticisms are its
    `sources`. `kept` are the texts that
    the questions about a batch show: they are there until the last of them is answered.
    """

    graph: Graph
    feedback: Feedback
    policy: Policy
    gradients: int = 0
    shown: int = 0
    most_shown: int = 0
    borne: int = 0
    questions: int = 0
    copied: int = 0
    kept: int = 0
    longest_prompt: int = 0
    said: dict[str, int] = field(default_factory=dict)
    sayings: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)

    def back(self) -> None:
        for item in self.feedback.feedback:
            self.said[item.variable] = self.said.get(item.variable, 0) + _longest(item)
            self.sources[item.variable] = self.sources.get(item.variable, 0) + 1
        self.sayings = dict(self.sources)
        self._most = self._most_sayings = len(self.feedback.feedback)
        self._all = sum(map(_words, self.feedback.feedback))
        self._seeds = dict(self.sources)
        self._name = _AROUND_NAME + min(
            _MOST_OF_NAME, max((len(one.role) for one in self.graph.variables), default=0)
        )
        self._leads = _leading(self.graph, self.feedback.wrt)
        self._lengths = {one.id: _length(one) for one in self.graph.variables}
        for at in range(len(self.graph.operations) - 1, -1, -1):
            if any(output in self.sources for output in self.graph.operations[at].outputs):
                self._through(at)

    def _through(self, at: int) -> None:
        operation = self.graph.operations[at]
        positions = self.graph.index.positions[at]
        items = self.graph.index.batches[at] or 1
        wanted = [one for one in positions if one.variable in self._leads]
        if not wanted:
            return
        sources = min(self._most, sum(self.sources.get(output, 0) for output in operation.outputs))
        seeds = sum(self._seeds.get(output, 0) for output in operation.outputs)
        said, sayings = self._passed_on(operation)
        asks = isinstance(operation, ChatCompletion) or (
            isinstance(operation, Function) and operation.transmit == "model"
        )
        if asks:
            self._ask(positions, wanted, items)
            said, sayings = _REPLY, 1
            replies = sum(self._count(one, at) for one in wanted)
            self._all += _REPLY * replies
            self._most_sayings += replies
        self.borne += seeds * items
        for position in wanted:
            count = self._count(position, at)
            self.gradients += count
            self.borne += sources * count
            self.copied += 0 if asks else (said + self._name * sayings) * count
            self._tell(position.variable, said, sayings, count)
            known = self.sources.get(position.variable, 0)
            self.sources[position.variable] = min(known + sources, self._most)

    def _passed_on(self, operation: Operation) -> tuple[int, int]:
        """Return how much was said of one item of what an operation wrote, and in how many sayings."""
        said = sum(self.said.get(output, 0) for output in operation.outputs)
        sayings = sum(self.sayings.get(output, 0) for output in operation.outputs)
        if isinstance(operation, Evaluation):
            said += max(map(len, operation.explanations), default=0)
            sayings += 1
            self._all += sum(map(len, operation.explanations))
            self._most_sayings += len(operation.explanations)
        # what comes by two ways is said once
        return min(said, self._all), min(sayings, self._most_sayings)

    def _tell(self, variable: str, said: int, sayings: int, count: int) -> None:
        # a single value hears what was said of it in every item
        times = 1 if isinstance(self.graph.index.variables[variable].data, tuple) else count
        self.said[variable] = min(self.said.get(variable, 0) + said * times, self._all)
        self.sayings[variable] = min(self.sayings.get(variable, 0) + sayings * times, self._most_sayings)

    def _ask(self, positions: Iterable[Position], wanted: Iterable[Position], items: int) -> None:
        """Count the questions about an operation, and what they show."""
        each = [self._each(one, items) for one in positions]
        asked = [self._each(one, items) for one in wanted]
        together = self.policy.calls == "per_operation" or self.policy.batch == "digest"
        prompt = shown = sum(each)
        if self.policy.batch == "digest":
            shown *= items
            asked = [self._lengths[one.variable] for one in wanted]
        # what is asked about is shown whole, the rest only as far as there is room
        longest = min(shown, self._prompt) + (sum(asked) if together else max(asked, default=0))
        self.longest_prompt = max(self.longest_prompt, longest)
        self.questions += items * (1 if together else len(asked))
        if items > 1:
            self.shown += items * len(each)
            self.kept += items * (prompt if together else min(prompt, longest))
        self.most_shown = max(self.most_shown, len(each))

    def _each(self, position: Position, items: int) -> int:
        """Return how long what is read is, for one item of it."""
        length = self._lengths[position.variable]
        batch = isinstance(self.graph.index.variables[position.variable].data, tuple)
        return -(-length // items) if batch or position.sample is not None else length

    @property
    def _prompt(self) -> int:
        return self.policy.prompt_tokens * _TOKEN

    def _count(self, position: Position, at: int) -> int:
        batch = self.graph.index.batches[at]
        if batch is None or position.sample is not None:
            return 1
        return batch if position.length is None else position.length


def _leading(graph: Graph, wrt: tuple[str, ...] | None) -> set[str]:
    """Return what is wanted, and all that was computed from it."""
    leads = {one.id for one in graph.parameters()} if wrt is None else set(wrt)
    for at, operation in enumerate(graph.operations):
        if any(one.variable in leads for one in graph.index.positions[at]):
            leads.update(operation.outputs)
    return leads


def _length(variable: Variable) -> int:
    data = variable.data if isinstance(variable.data, tuple) else (variable.data,)
    return sum(len(one) if isinstance(one, str) else _NUMBER for one in data) + len(variable.role)


def _longest(item: FeedbackItem) -> int:
    return max(map(len, item.text), default=0) if isinstance(item.text, tuple) else len(item.text or "")


def _words(item: FeedbackItem) -> int:
    return sum(map(len, item.text)) if isinstance(item.text, tuple) else len(item.text or "")
