"""Which trace feedback goes on with: what a client remembers of the answers it had."""

from __future__ import annotations

import pytest

from backtalk.client import traces as module
from backtalk.client.traces import Traces
from backtalk.transport.envelope import Envelope
from backtalk.wire.feedback import Feedback, FeedbackItem
from backtalk.wire.graph import Graph, Variable
from backtalk.wire.jobs import CompletionJob, CompletionResult
from backtalk.wire.operations import Concat

JOB = CompletionJob(model="m", messages=({"role": "user", "content": "Hello"},))


def header(trace):
    return f"00-{trace:032x}-00000000000000aa-01"


def graph(name):
    """Return what a program did in one step, and in which order it would be gone back from."""
    read = Variable(id=f"{name} in", data=("a",), role="text", requires_grad=True)
    step = Concat(id=name, inputs=(read.id,), lengths=(1,), outputs=(f"{name} out",))
    written = Variable(id=f"{name} out", data=("a",), role="text", requires_grad=True, producer=name)
    return Graph(variables=(read, written), operations=(step,))


def heard(traces, name, **headers):
    answer = CompletionResult(id=name, status="completed", graph=graph(name))
    traces.heard(answer, Envelope(b"", headers=headers))


def feedback(*names):
    return Feedback(
        graph=tuple(graph(name) for name in names),
        feedback=tuple(FeedbackItem(variable=f"{name} out", text="Shorter.") for name in names),
    )


@pytest.fixture
def traces():
    return Traces()


def test_feedback_goes_on_with_the_first_trace_and_refers_to_the_others(traces):
    """Each once, also when several steps are of one trace."""
    for name, trace in (("a", 1), ("b", 2), ("c", 1), ("d", 3)):
        heard(traces, name, traceparent=header(trace), tracestate="x=y")
    assert traces.headers(feedback("a", "b", "c", "d")) == {
        "traceparent": header(1),
        "tracestate": "x=y",
        "x-backtalk-trace-links": f"{header(2)} {header(3)}",
    }


def test_a_job_belongs_to_nobodys_trace(traces):
    """It goes back to no answer."""
    heard(traces, "a", traceparent=header(1))
    assert traces.headers(JOB) == {}


@pytest.mark.parametrize("headers", [{}, {"traceparent": 7}, {"tracestate": "x=y"}], ids=str)
def test_an_answer_without_a_trace_is_not_remembered(traces, headers):
    """Where nobody traces, nothing is kept."""
    heard(traces, "a", **headers)
    assert (traces.headers(feedback("a")), traces._of) == ({}, {})


def test_only_the_last_operations_are_remembered(traces, monkeypatch):
    """The oldest go first, and one that is told of again is young again."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    for name in ("a", "b", "a", "c"):
        heard(traces, name, traceparent=header(1))
    assert [bool(traces.headers(feedback(name))) for name in ("a", "b", "c")] == [True, False, True]


def test_links_are_bounded(traces, monkeypatch):
    """All headers of a message have to fit into one frame."""
    monkeypatch.setattr(module, "MAX_LINKS", 2)
    names = [f"step {at}" for at in range(5)]
    for at, name in enumerate(names):
        heard(traces, name, traceparent=header(at + 1))
    links = traces.headers(feedback(*names))["x-backtalk-trace-links"]
    assert links.split() == [header(2), header(3)]
