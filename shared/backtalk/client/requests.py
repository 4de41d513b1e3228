"""What callers say, as requests; raises Refused for what no worker would take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from backtalk.wire.codec import validate
from backtalk.wire.errors import Code, Refused
from backtalk.wire.feedback import Feedback
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob


def job_of(
    model: str,
    messages: Iterable[Mapping[str, Any] | BaseModel],
    inputs: Mapping[str, Any] | None,
    arguments: Mapping[str, Any],
) -> CompletionJob:
    body = {"model": model, "messages": list(messages), "inputs": inputs or {}, **arguments}
    return validate(to_jsonable_python(body), CompletionJob)


def feedback_of(
    graph: Graph | Iterable[Graph] | None,
    feedback: Mapping[str, str | list[str] | None] | Iterable[Mapping[str, Any] | BaseModel],
    options: Mapping[str, Any],
) -> Feedback:
    if graph is None:
        raise Refused(
            Code.INVALID_MESSAGE,
            'graph: is None; send the job with backtalk={"record": "always"} to get one',
        )
    items = (
        [{"variable": variable, "text": text} for variable, text in feedback.items()]
        if isinstance(feedback, Mapping)
        else to_jsonable_python(list(feedback))
    )
    graphs = [graph] if isinstance(graph, Graph) else list(graph)
    return validate({"graph": graphs, "feedback": items, **options}, Feedback)
