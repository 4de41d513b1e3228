"""One feedback message from start to finish: join the graph, check the feedback, go back, answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from backtalk.runtime.emit import Emit
from backtalk.runtime.model import Model, total
from backtalk.wire.answer import status_of
from backtalk.wire.errors import invalid
from backtalk.wire.feedback import Entry, Failure, Feedback, FeedbackItem, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.kinds import Request
from backward_worker import backward as reverse
from backward_worker.ask import Asker
from backward_worker.gradient import EMPTY, TextGradient
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
        raise invalid(
            f"{path}/text", "is null, but no operation here explains itself; say what should change"
        )
    if isinstance(item.text, tuple):
        items = len(variable.data) if isinstance(variable.data, tuple) else None
        if items != len(item.text):
            raise invalid(
                f"{path}/text",
                f"has {len(item.text)} texts, but variable {item.variable!r} is "
                f"{f'a batch of {items}' if items else 'no batch'}; send one text for each item, or a single one",
            )


def _of_item(item: FeedbackItem, id: str) -> Iterator[Seed]:
    texts = enumerate(item.text) if isinstance(item.text, tuple) else ((None, item.text),)
    for sample, text in texts:
        gradient = TextGradient(text, "copied", item.source) if text else EMPTY
        yield reverse.Contribution(gradient, sample=sample, feedback=(id,))


def _answer(
    request: Request[Feedback], graph: Graph, result: reverse.Gradients[TextGradient], asker: Asker
) -> Gradients:
    gradients = {
        id: tuple(_entry(said, f"feedback to {graph.index.variables[id].role}") for said in contributions)
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


def _entry(said: Seed, role: str) -> Entry:
    return Entry(
        text=said.gradient.text,
        role=role,
        operation=said.operation,
        input=said.input,
        sample=said.sample,
        feedback=said.feedback,
        how=said.gradient.how,
        incomplete=said.incomplete,
    )
