"""Which trace a request belongs to: that of the span its caller is in, else that of the answers it goes back to."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from typing import Final, TypeAlias

from backtalk.client.inbox import AnyAnswer
from backtalk.transport.envelope import TRACE_LINKS, TRACEPARENT, Envelope
from backtalk.wire.feedback import Feedback
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob, CompletionResult

REMEMBERED: Final = 10_000
MAX_LINKS: Final = 16

Headers: TypeAlias = dict[str, str]


class Traces:
    """The traces of the last 10,000 operations that answers told of; of no use where nobody traces, and no cost."""

    def __init__(self) -> None:
        self._of: dict[str, Headers] = {}

    def heard(self, answer: AnyAnswer, envelope: Envelope) -> None:
        """Remember which trace the operations of an answer belong to."""
        if TRACEPARENT not in (trace := envelope.trace) or not isinstance(answer, CompletionResult):
            return
        for operation in answer.graph.operations if answer.graph else ():
            self._of.pop(operation.id, None)
            self._of[operation.id] = trace
        while len(self._of) > REMEMBERED:
            del self._of[next(iter(self._of))]

    def headers(self, request: CompletionJob | Feedback) -> Headers:
        """Return the headers that a request bears: its trace, and which others it goes back to."""
        known = self._behind(request.graphs) if self._of and isinstance(request, Feedback) else []
        trace = _current() or next(iter(known), {})
        own = _id_of(trace.get(TRACEPARENT, ""))
        others = {_id_of(one[TRACEPARENT]): one[TRACEPARENT] for one in known}
        others.pop(own, None)
        links = " ".join(islice(others.values(), MAX_LINKS))
        return {**trace, TRACE_LINKS: links} if links else trace

    def _behind(self, graphs: Iterable[Graph]) -> list[Headers]:
        return [
            trace
            for graph in graphs
            for one in graph.operations
            if (trace := self._of.get(one.id)) is not None
        ]


def _id_of(traceparent: str) -> str:
    return traceparent[3:35]


def _current() -> Headers:
    """Return the headers of the span that the caller is in, if it is in one."""
    if "opentelemetry.trace" not in sys.modules:
        # who has not imported it is in none
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    headers: Headers = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers
