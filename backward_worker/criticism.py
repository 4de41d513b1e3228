"""What was said of the outputs of a step, and where it comes from, in words."""

from __future__ import annotations

from dataclasses import dataclass

from backtalk.prompt import as_text
from backtalk.wire.evaluations import Evaluation, explains_itself
from backtalk.wire.graph import ChatCompletion, Graph, Operation
from backtalk.wire.operations import Function
from backward_worker.gradient import TextGradient
from backward_worker.quote import quote
from backward_worker.step import Contribution, Step


@dataclass(frozen=True, slots=True)
class Criticism:
    origin: str
    text: str


@dataclass(frozen=True, slots=True)
class Criticisms:
    """All that was said for one sample: in words, how many had nothing to criticise, whether something is missing."""

    items: tuple[Criticism, ...]
    silent: int
    incomplete: bool


def criticisms(step: Step[TextGradient], sample: int | None, what: str) -> Criticisms:
    """Return what was said of the outputs for one sample; `what` is what an output is called: an answer."""
    received = step.received[sample]
    return Criticisms(
        tuple(
            Criticism(
                _which(output, step.operation, what) + _origin(said, step.graph, what), said.gradient.text
            )
            for output, said in received
            if said.gradient.text
        ),
        sum(not said.gradient.text for _, said in received),
        any(said.incomplete for _, said in received),
    )


def _which(output: str, operation: Operation, what: str) -> str:
    """Say which output is meant, where there are several."""
    several = len(operation.outputs) > 1
    return f"Of {what} {operation.outputs.index(output) + 1}. " if several else ""


def _origin(contribution: Contribution[TextGradient], graph: Graph, what: str) -> str:
    item = "" if contribution.sample is None else f", for item {contribution.sample} of a batch"
    if contribution.operation is None:
        source = contribution.gradient.source
        return f"Said directly of the {what}{f' by {quote(source)}' if source else ''}{item}"
    reader = graph.operations[graph.index.operations[contribution.operation]]
    path = quote(contribution.input or "")
    if isinstance(reader, Evaluation):
        return _evaluated(reader, contribution.sample, what, item)
    wrote = f"which wrote {quote(graph.index.variables[reader.outputs[0]].role)}{item}"
    if isinstance(reader, ChatCompletion):
        return f"The {what} was read by a later call, at {path}, {wrote}; how the {what} should change for that call"
    if isinstance(reader, Function):
        return f"The {what} was given to the function {quote(reader.name)}, at {path}, {wrote}; what is said of that"
    return f"The {what} was read by a later step of the program, at {path}, {wrote}; what is said of that"


def _evaluated(evaluation: Evaluation, sample: int | None, what: str, item: str) -> str:
    purpose = quote(evaluation.purpose)
    if not explains_itself(evaluation):
        return f"The {what} served as the judgement in an evaluation of {purpose}{item}; what is said of that judgement"
    score = evaluation.scores[sample or 0]
    told = "" if score is None else f" with the score {as_text(score)}"
    return f"The {what} was evaluated{told}, by {purpose}{item}; what the evaluation says of it"
