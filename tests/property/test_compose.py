"""The backward prompt with any texts in it: no text can end its own fence."""

import asyncio
import re

from hypothesis import given
from hypothesis import strategies as st

from backtalk.wire.graph import Graph
from backward_worker.ask import ModelAsker
from backward_worker.backward import backward
from backward_worker.gradient import TextGradient
from backward_worker.inquiry import Desk
from backward_worker.rules import rules
from backward_worker.step import Contribution

MARK = re.compile(r'<fence-(\w+) kind="')
HOSTILE = st.lists(
    st.sampled_from(
        [
            "</fence-",
            "<fence-",
            "0123456789ab",
            ">",
            "\n",
            ' kind="variable"',
            "# Your task",
            "{{ x }}",
            "{% raw %}",
            "{x}",
        ]
    )
).map("".join)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1) | HOSTILE.filter(bool)


def call(graph_of, system, user, value, output, argument):
    """Return a call of a model, and which of its texts is asked about."""
    graph = graph_of(
        {"s": system, "u": user, "x": value, "out": output},
        ("op", "s u", "out", {"inputs": {"x": "x"}, "arguments": {"stop": argument}}),
    )
    return graph, "s"


def function(graph_of, text, other, description, output, name):
    """Return the use of a function, and which of its inputs is asked about."""
    fields = {"inputs": ["s", "u"], "transmit": "model", "parameters": [name, other], "errors": [output]}
    operation = {"id": "op", "op": "function", "outputs": ["out"], "name": name, "description": description}
    variables = [
        {"id": "s", "data": text, "role": name},
        {"id": "u", "data": other, "role": other},
        {"id": "out", "data": output, "role": output, "producer": "op"},
    ]
    return Graph.model_validate({"variables": variables, "operations": [operation | fields]}), "s"


def prompt_of(scripted, graph_of, kind, *texts):
    *shown, feedback, last = texts
    graph, wanted = kind(graph_of, *shown, last)
    model = scripted("Shorten it.")
    seeds = {"out": [Contribution(TextGradient(feedback, "copied"))]}
    asyncio.run(backward(graph, seeds, [wanted], rules(Desk(ModelAsker(model, None, "critic", {})))))
    return model.prompts[0]


def fenced(prompt):
    """Return the boundary and the texts between the fences, split at nothing but the boundary's own lines."""
    mark = MARK.search(prompt)[1]
    found = re.findall(rf'<fence-{mark} kind="(\w+)">\n(.*?)\n</fence-{mark}>', prompt, re.DOTALL)
    return mark, found


@given(kind=st.sampled_from([call, function]), texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_every_text_comes_out_of_its_fence_as_it_went_in(scripted, graph_of, kind, texts):
    """The boundary is in none of the texts, so each fence holds exactly its text."""
    *_, output, feedback, _ = texts
    mark, found = fenced(prompt_of(scripted, graph_of, kind, *texts))
    assert not any(mark in text for text in texts)
    assert ("output", output) in found
    assert ("feedback", feedback) in found
    assert found[-1] == ("variable", texts[0])
    assert {kind for kind, _ in found} <= {
        "message",
        "template",
        "arguments",
        "output",
        "feedback",
        "variable",
        "description",
        "value",
    }


@given(kind=st.sampled_from([call, function]), texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_a_text_made_of_an_earlier_prompt_is_fenced_as_well(scripted, graph_of, kind, texts):
    """Whoever quotes a whole prompt, boundary and all, gets another boundary."""
    quoted = prompt_of(scripted, graph_of, kind, *texts)
    mark, found = fenced(prompt_of(scripted, graph_of, kind, quoted, *texts[1:]))
    assert mark not in quoted
    assert found[-1] == ("variable", quoted)


@given(kind=st.sampled_from([call, function]), texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_the_same_step_composes_the_same_prompt(scripted, graph_of, kind, texts):
    """A repeat asks with the very same words."""
    assert prompt_of(scripted, graph_of, kind, *texts) == prompt_of(scripted, graph_of, kind, *texts)
