"""What the tests of policies share: a feedback message on a graph, and a model that answers in the form it is asked for."""

from __future__ import annotations

import json
import re

import pytest

from backtalk.wire.feedback import Feedback
from backtalk.wire.graph import Graph
from backtalk.wire.kinds import Request
from backward_worker.differentiate import differentiate

KEYS = re.compile(r"^Reply with one JSON object .* Its keys are (.*), one for each text", re.MULTILINE)


@pytest.fixture(scope="session")
def feedback_on():
    """Return the maker of requests: `feedback_on(graph, ("out", "Too long."), policy={…})`; an item may be a dict."""

    def made(graph, *items, **fields):
        told = [
            item if isinstance(item, dict) else dict(zip(("variable", "text"), item, strict=True))
            for item in items
        ]
        body = {"graph": graph.model_dump(mode="json"), "feedback": told, **fields}
        return Request("feedback-1", "key-1", Feedback.model_validate(body))

    return made


@pytest.fixture(scope="session")
def go_back(feedback_on):
    """Return what answers a feedback message, with a scripted model; `named` and `defaults` are the worker's own."""

    async def answered(model, graph, *items, named=None, defaults=None, **fields):
        request = feedback_on(graph, *items, **fields)
        return await differentiate(
            request, model=model, emit=pytest.fail, backward_model=named, policy=defaults
        )

    return answered


@pytest.fixture(scope="session")
def asked_for():
    """Return how many texts a question is about: `asked_for(body)`."""

    def count(body):
        found = KEYS.search(body["messages"][-1]["content"])
        return len(json.loads(f"[{found[1]}]")) if found else 1

    return count


@pytest.fixture(scope="session")
def always(asked_for):
    """Return the maker of replies that are the same for every text: `always("Shorten it.")`, in JSON where it is due."""

    def reply(text):
        def replied(body):
            count = asked_for(body)
            return json.dumps({str(one): text for one in range(1, count + 1)}) if count > 1 else text

        return replied

    return reply


@pytest.fixture(scope="session")
def halves():
    """Return the graph of a batch done in parts: `sys` and `q0`, `q1`, … give `o0`, `o1`, …, which `all` puts together.

    A part of length None is a single value.
    """

    def build(lengths=(2, 2), op="chat_completion", wanted=("sys",)):
        variables = [_variable("sys", "S", wanted=wanted)]
        operations = []
        for at, length in enumerate(lengths):
            variables += [
                _variable(f"q{at}", _items(f"question {at}", length), wanted=wanted),
                _variable(f"o{at}", _items(f"answer {at}", length), f"part{at}"),
            ]
            operations.append({"id": f"part{at}", "op": op, "outputs": [f"o{at}"], **_reads(op, at)})
        whole = [f"answer {at}.{item}" for at, length in enumerate(lengths) for item in range(length or 1)]
        variables.append(_variable("all", whole, "whole"))
        parts = [f"o{at}" for at in range(len(lengths))]
        operations.append(
            {"id": "whole", "op": "concat", "inputs": parts, "lengths": list(lengths), "outputs": ["all"]}
        )
        return Graph.model_validate({"variables": variables, "operations": operations})

    return build


def _variable(id, data, producer=None, wanted=()):
    told = {"producer": producer} if producer else {"requires_grad": id in wanted}
    return {"id": id, "data": data, "role": f"role of {id}", **told}


def _items(word, length):
    return f"{word}.0" if length is None else [f"{word}.{item}" for item in range(length)]


def _reads(op, at):
    if op != "chat_completion":
        return {"inputs": ["sys", f"q{at}"]}
    message = {"role": "user", "content": ["sys", f"q{at}"]}
    return {"endpoint": "openai", "model": "m", "messages": [message]}
