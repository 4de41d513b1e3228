"""The JSON that people have at hand, and the graph in it: a graph, an answer, a request with fragments, or a file of ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Annotated, BinaryIO, Final

from pydantic import Discriminator, Field

from backtalk.drawing.scene import AllGradients
from backtalk.wire.base import Lenient, escape, one_or_list, tag
from backtalk.wire.codec import parse, validate
from backtalk.wire.errors import Refused, invalid
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Graph

_Fragments = Annotated[
    Annotated[Graph, tag("one")] | Annotated[tuple[Graph, ...], Field(min_length=1), tag("list")],
    Discriminator(one_or_list),
]
_OF_A_GRAPH: Final = frozenset({"variables", "operations", "parts"})


class _Criticism(Lenient):
    gradients: dict[str, tuple[Entry, ...]]


class _Body(Lenient):
    graph: _Fragments
    gradients: dict[str, tuple[Entry, ...]] = Field(default_factory=dict)


def read(file: BinaryIO, gradients: BinaryIO | None = None) -> tuple[Graph, AllGradients]:
    """Return the graph in a file, and the gradients in it and in a second one. Raises Refused, which names the file."""
    with _named(file):
        graph, told = read_graph(file.read())
    if gradients is None:
        return graph, told
    with _named(gradients):
        return graph, {**told, **read_gradients(gradients.read(), graph)}


@contextmanager
def _named(file: BinaryIO) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        told = refused.error
        name = getattr(file, "name", "<stdin>")
        raise Refused(told.code, f"{name}: {told.message}", **told.details) from refused


def read_graph(body: bytes) -> tuple[Graph, AllGradients]:
    """Return the graph in a JSON text, and the gradients beside it. Raises Refused.

    The text is a graph, or an object with one in `graph`, or several to join: a completion result, a feedback body.
    """
    value = parse(body)
    if "graph" not in value and value.keys() & _OF_A_GRAPH:
        return validate(value, Graph), {}
    if value.get("graph") is None:
        raise invalid("graph", _why_missing(value.keys()))
    found = validate(value, _Body)
    graph = Graph.join(*found.graph) if isinstance(found.graph, tuple) else found.graph
    return graph, known(graph, found.gradients)


def read_gradients(body: bytes, graph: Graph) -> AllGradients:
    """Return the gradients in the answer to feedback on a graph. Raises Refused."""
    return known(graph, validate(parse(body), _Criticism).gradients)


def known(graph: Graph, gradients: dict[str, tuple[Entry, ...]]) -> AllGradients:
    """Return gradients as they are; raises Refused where one is of a variable that the graph lacks."""
    for id in gradients:
        if id not in graph.index.variables:
            raise invalid(
                f"gradients/{escape(id)}",
                "is no variable of the graph; draw the gradients with the graph that was criticised",
            )
    return gradients


def _why_missing(fields: Collection[str]) -> str:
    if "completions" in fields:
        return "this result was not recorded; send the job with a Variable, or with backtalk.record set to always"
    if "gradients" in fields:
        return "there are only gradients; give this file to --gradients, beside the file with the graph"
    return "is missing; give a graph, a completion result, a feedback body, or an object with graph and gradients"
