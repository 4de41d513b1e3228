"""One feedback message from start to finish: join the graph, check the feedback, go back, answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from backtalk.prompt import as_text
from backtalk.runtime.emit import Emit
from backtalk.runtime.model import Model, total
from backtalk.wire.answer import status_of
from backtalk.wire.errors import invalid
from backtalk.wire.evaluations import Judge, explains_itself
from backtalk.wire.feedback import Entry, Failure, Feedback, FeedbackItem, Gradients
from backtalk.wire.graph import Graph, Operation
from backtalk.wire.kinds import Request
from backward_worker import backward as reverse
from backward_worker.ask import Asker
from backward_worker.gradient import EMPTY, UNSAID, TextGradient
from backward_worker.rules import rules

Seed: TypeAlias = reverse.Contribution[TextGradient]


async def differentiate(
    request: Request[Feedback],
    *,
    model: Model,
    emit: Emit,  # noqa: ARG001  gradients are of use only when they are whole
    backward_model: str | None = None,
) -> Gradients:
    """Return the gradients that a feedback message asks for. Raises Refused where it contradicts its graph."""
    body = request.body
    if body.backtalk.endpoint:
        model.check(body.backtalk.endpoint)
    graph = body.graph if isinstance(body.graph, Graph) else Graph.join(*body.graph)
    wanted = _wanted(graph, body.wrt)
    seeds = _seeds(graph, body.feedback)
    asker = Asker(model, body.backtalk.endpoint, body.model or backward_model, body.arguments)
    result = await reverse.backward(graph, seeds, wanted, rules(asker))
    return _answer(request, graph, result, asker)


def _wanted(graph: Graph, wrt: Sequence[str] | None) -> Sequence[str]:
    if wrt is None:
        return [variable.id for variable in graph.parameters()]
    for at, id in enumerate(wrt):
        if id not in graph.index.variables:
            raise invalid(f"wrt/{at}", f"{id!r} is not a variable of the graph; name one that is")
    return list(dict.fromkeys(wrt))


def _seeds(graph: Graph, items: Iterable[FeedbackItem]) -> dict[str, list[Seed]]:
    seeds: dict[str, list[Seed]] = {}
    for at, item in enumerate(items):
        _check(graph, item, f"feedback/{at}")
        seeds.setdefault(item.variable, []).extend(_of_item(item, item.id or f"feedback/{at}"))
    return seeds


def _check(graph: Graph, item: FeedbackItem, path: str) -> None:
    variable = graph.index.variables.get(item.variable)
    if variable is None:
        raise invalid(
            f"{path}/variable", f"{item.variable!r} is not a variable of the graph; name one that is"
        )
    if item.text is None:
        _check_explained(graph, item.variable, f"{path}/text")
    if isinstance(item.text, tuple):
        items = len(variable.data) if isinstance(variable.data, tuple) else None
        if items != len(item.text):
            raise invalid(
                f"{path}/text",
                f"has {len(item.text)} texts, but variable {item.variable!r} is "
                f"{f'a batch of {items}' if items else 'no batch'}; send one text for each item, or a single one",
            )


def _check_explained(graph: Graph, id: str, path: str) -> None:
    writer = _writer(graph, id)
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


def _writer(graph: Graph, id: str) -> Operation | None:
    at = graph.index.writers.get(id)
    return None if at is None else graph.operations[at]


def _of_item(item: FeedbackItem, id: str) -> Iterator[Seed]:
    if item.text is None:
        yield reverse.Contribution(UNSAID, feedback=(id,))
        return
    texts = enumerate(item.text) if isinstance(item.text, tuple) else ((None, item.text),)
    for sample, text in texts:
        gradient = TextGradient(text, "copied", item.source) if text else EMPTY
        yield reverse.Contribution(gradient, sample=sample, feedback=(id,))


def _answer(
    request: Request[Feedback], graph: Graph, result: reverse.Gradients[TextGradient], asker: Asker
) -> Gradients:
    gradients = {
        id: tuple(_entry(graph, id, said) for said in contributions)
        for id, contributions in result.contributions.items()
    }
    failures = tuple(
        Failure(variable=f.variable, operation=f.operation, sample=f.sample, error=f.error)
        for f in result.failures
    )
    status = status_of(anything=any(gradients.values()), failures=bool(failures))
    return Gradients(
        id=request.id,
        status=status,
        gradients=gradients,
        failures=failures,
        usage={**total(asker.spent), "calls": len(asker.spent)},
        metadata=request.body.backtalk.metadata,
        error=failures[0].error if status == "failed" else None,
    )


def _entry(graph: Graph, id: str, said: Seed) -> Entry:
    gradient = _explanation(graph, id) if said.gradient is UNSAID else said.gradient
    return Entry(
        text=gradient.text,
        role=f"feedback to {graph.index.variables[id].role}",
        operation=said.operation,
        input=said.input,
        sample=said.sample,
        feedback=said.feedback,
        how=gradient.how,
        incomplete=said.incomplete,
    )


def _explanation(graph: Graph, id: str) -> TextGradient:
    """Return what the evaluation that wrote a variable says itself, for feedback without words on the variable."""
    writer = _writer(graph, id)
    assert writer is not None
    text = as_text(graph.index.variables[writer.outputs[1]].data)
    return TextGradient(text, "copied") if text else EMPTY
