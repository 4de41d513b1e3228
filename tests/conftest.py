"""What the tests of the pure parts share: a scripted model, and the graph that the design shows."""

from __future__ import annotations

import json
from collections import deque

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from backtalk.runtime.model import Completion
from backtalk.wire.codec import validate
from backtalk.wire.errors import invalid
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob
from forward_worker.plan import Plan
from forward_worker.tools.inject import toolbox as toolbox_of

# a slow machine is no failure
hypothesis_settings.register_profile("backtalk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("backtalk")

# the broker, the workers and the endpoint, for integration and end-to-end tests
pytest_plugins = ["fixtures.live"]

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


class ScriptedModel:
    """A model that gives the next scripted reply to each body and keeps what it was asked.

    A reply is a text, a choice or a list of choices as OpenAI writes them, an exception to raise,
    or a function from the body to one of these. The last reply is given again and again.
    """

    def __init__(self, *replies, endpoints=("openai", "local")):
        self._replies = deque(replies or ["fine"])
        self._endpoints = endpoints
        self.bodies = []
        self.asked = []
        self.places = []

    @property
    def prompts(self):
        """The text of the last message of every body."""
        return [body["messages"][-1]["content"] for body in self.bodies]

    def check(self, endpoint):
        if endpoint not in self._endpoints:
            raise invalid("backtalk/endpoint", f"{endpoint!r} is not configured; name another one")

    def over(self, waited):
        return None

    async def complete(self, endpoint, body, listener=None, *, place):
        self.check(endpoint)
        self.asked.append(endpoint)
        self.places.append(place)
        self.bodies.append(body)
        reply = self._replies.popleft() if len(self._replies) > 1 else self._replies[0]
        if callable(reply):
            reply = reply(body)
        if listener is not None:
            listener.begin()
        if isinstance(reply, Exception):
            raise reply
        whole = completion(reply)
        for chunk in spelled(whole.body) if listener is not None else ():
            listener.hear(chunk)
        return whole


def completion(reply):
    choices = reply if isinstance(reply, list) else [reply]
    whole = [
        {"index": at, "message": {"role": "assistant", "content": choice}, "finish_reason": "stop"}
        if choice is None or isinstance(choice, str)
        else choice
        for at, choice in enumerate(choices)
    ]
    return Completion({"object": "chat.completion", "choices": whole, "usage": USAGE})


def spelled(body):
    """Yield the chunks in which an endpoint would stream a completion."""
    for at, choice in enumerate(body["choices"]):
        for delta in [*deltas(choice["message"]), {}]:
            finish = None if delta else choice.get("finish_reason", "stop")
            yield chunk({"index": choice.get("index", at), "delta": delta, "finish_reason": finish})
    yield {**chunk(), "usage": body["usage"]}


def chunk(*choices):
    return {"object": "chat.completion.chunk", "choices": list(choices)}


def deltas(message):
    """Yield what a message is streamed in: its role, its text in pieces, its calls of tools, and what else it has."""
    said = dict(message)
    text, calls = said.pop("content", None), said.pop("tool_calls", None) or ()
    yield {"role": said.pop("role", "assistant"), "content": None if text is None else ""}
    yield from ({"content": piece} for piece in pieces(text or ""))
    for at, call in enumerate(calls):
        function = call["function"]
        yield {"tool_calls": [{"index": at, **call, "function": {**function, "arguments": ""}}]}
        for piece in pieces(function["arguments"]):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}
    yield from ({name: value} for name, value in said.items())


def pieces(text):
    return (text[at : at + 3] for at in range(0, len(text), 3))


@pytest.fixture(scope="session")
def scripted():
    """Return the scripted model's class: `scripted("first reply", "second reply")`."""
    return ScriptedModel


@pytest.fixture(scope="session")
def toolbox():
    """Return how a worker serves tools that was told nothing: the default words, and inject mode everywhere."""
    return toolbox_of(None, {})


@pytest.fixture(scope="session")
def job_of():
    """Return the maker of jobs: `job_of("Hello", {"role": "tool", …}, tools=[…])`; a text is a user's message."""

    def made(*messages, **fields):
        told = [m if isinstance(m, dict) else {"role": "user", "content": m} for m in messages or ("Hello",)]
        return validate({"model": "m", "messages": told, **fields}, CompletionJob)

    return made


@pytest.fixture(scope="session")
def plan_of(toolbox, job_of):
    """Return the maker of plans, from what makes a job; `box` is another toolbox."""

    def made(*messages, key="work-key", box=toolbox, **fields):
        return Plan.of(job_of(*messages, **fields), key, box)

    return made


@pytest.fixture(scope="session")
def example():
    """Return the graph of section 3 of the design, as JSON writes it."""
    return json.loads(
        """
{"schema_version": 1,
 "variables": [
   {"id": "sys", "data": "You are a helpful assistant.", "role": "system instruction", "requires_grad": true},
   {"id": "lang", "data": "Italian", "role": "language", "requires_grad": false},
   {"id": "7f…", "data": "Translate 'Hello' to {language}.", "role": "user message", "requires_grad": false},
   {"id": "c2…", "data": "Ciao", "role": "response to user message", "requires_grad": true, "producer": "a9…"}],
 "operations": [
   {"id": "a9…", "op": "chat_completion", "endpoint": "openai", "model": "gpt-4o", "arguments": {},
    "messages": [{"role": "system", "content": ["sys"]}, {"role": "user", "content": ["7f…"]}],
    "inputs": {"language": "lang"}, "outputs": ["c2…"]}]}
"""
    )


@pytest.fixture(scope="session")
def graph_of():
    """Return the builder of graphs from a few words: `graph_of({"a": "text", "b": "text"}, ("op", "a", "b"))`.

    A variable is its data, or a dict of its fields; an operation is (id, reads, writes, other fields). Reads are
    variable ids of its one user message, separated by spaces; writes are its outputs, likewise.
    """

    def build(variables, *operations, **fields):
        writers = {output: op[0] for op in operations for output in op[2].split()}
        return Graph.model_validate(
            {
                "variables": [variable(id, given, writers.get(id)) for id, given in variables.items()],
                "operations": [operation(*op) for op in operations],
                **fields,
            }
        )

    def variable(id, given, producer):
        told = dict(given) if isinstance(given, dict) else {"data": given}
        written = {"producer": producer} if producer else {}
        return {"id": id, "role": f"role of {id}", **written, **told}

    def operation(id, reads, writes, more=None):
        return {
            "id": id,
            "op": "chat_completion",
            "endpoint": "openai",
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": reads.split()}],
            "outputs": writes.split(),
            **(more or {}),
        }

    return build
