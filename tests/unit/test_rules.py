"""The table of rules, and the rule of a chat completion."""

import asyncio
from typing import get_args

import pytest

from backtalk.wire.graph import ChatCompletion, Operation
from backward_worker.ask import ModelAsker
from backward_worker.backward import backward
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.inquiry import Desk
from backward_worker.rules import TABLE, rules
from backward_worker.step import Contribution

BATCH = ["0", "1", "2"]


def ops():
    """Return the closed set of ops, whether the union has one member or more."""
    union = get_args(Operation)
    members = get_args(union[0]) or union if union else (Operation,)
    return {member.model_fields["op"].default for member in members}


def said(text, sample=None):
    return Contribution(TextGradient(text, "copied") if text else EMPTY, sample=sample, feedback=("f",))


async def run(model, graph, seeds, wanted):
    asker = ModelAsker(model, None, None, {})
    return await backward(graph, seeds, wanted, rules(Desk(asker)))


def texts(result, id):
    return [(one.sample, one.gradient.text, one.gradient.how) for one in result.contributions[id]]


def test_every_kind_of_operation_has_its_rule():
    """The table holds a row for each op of the wire and no other."""
    assert set(TABLE) == ops()
    assert "chat_completion" in ops()
    assert ChatCompletion.model_fields["op"].default in TABLE


def test_the_rules_of_a_message_are_the_table_with_its_model(scripted):
    """Nothing is added and nothing lost on binding."""
    assert rules(Desk(ModelAsker(scripted(), None, None, {}))).keys() == TABLE.keys()


async def test_one_question_is_asked_for_each_wanted_input_and_sample(scripted, graph_of):
    """Three items, two wanted inputs: six questions."""
    model = scripted("Shorten it.")
    graph = graph_of({"sys": "s", "q": BATCH, "free": "f", "out": BATCH}, ("op", "sys q free", "out"))
    result = await run(model, graph, {"out": [said("too long")]}, ["sys", "q"])
    assert len(model.bodies) == 6
    assert texts(result, "sys") == [(at, "Shorten it.", "model") for at in range(3)]


async def test_nothing_criticised_is_nothing_asked(scripted, graph_of):
    """Empty feedback goes back as the empty gradient, at no cost, over any distance."""
    model = scripted("never asked")
    graph = graph_of({"a": "x", "b": "y", "c": "z"}, ("one", "a", "b"), ("two", "b", "c"))
    result = await run(model, graph, {"c": [said("")]}, ["a", "b"])
    assert texts(result, "a") == texts(result, "b") == [(None, "", "empty")]
    assert result.contributions["a"][0].feedback == ("f",)
    assert model.bodies == []


async def test_items_that_nobody_criticised_are_not_asked_about(scripted, graph_of):
    """One of three was criticised: one question, three entries."""
    model = scripted("Shorten it.")
    graph = graph_of({"sys": "s", "q": BATCH, "out": BATCH}, ("op", "sys q", "out"))
    seeds = {"out": [said("", 0), said("too long", 1), said("", 2)]}
    result = await run(model, graph, seeds, ["sys"])
    assert len(model.bodies) == 1
    assert texts(result, "sys") == [(0, "", "empty"), (1, "Shorten it.", "model"), (2, "", "empty")]


async def test_a_model_that_finds_nothing_ends_the_way_there(scripted, graph_of):
    """NO FEEDBACK is an empty gradient, and what lies behind it is not asked about."""
    model = scripted("NO FEEDBACK")
    graph = graph_of({"a": "x", "b": "y", "c": "z"}, ("one", "a", "b"), ("two", "b", "c"))
    result = await run(model, graph, {"c": [said("too long")]}, ["a", "b"])
    assert texts(result, "a") == texts(result, "b") == [(None, "", "empty")]
    assert len(model.bodies) == 1


async def test_one_voice_among_silent_ones_is_asked_about(scripted, graph_of):
    """An empty criticism beside a real one does not hide it."""
    model = scripted("Shorten it.")
    graph = graph_of({"a": "x", "b": "y"}, ("op", "a", "b"))
    await run(model, graph, {"b": [said(""), said("too long"), said("")]}, ["a"])
    assert len(model.bodies) == 1
    assert "too long" in model.prompts[0]


async def test_all_questions_of_an_operation_are_asked_at_once(scripted, graph_of):
    """No input and no item waits for another."""
    everyone = asyncio.Barrier(6)

    class Meeting(scripted):
        async def complete(self, endpoint, body, *, place):
            await everyone.wait()
            return await super().complete(endpoint, body, place=place)

    graph = graph_of({"sys": "s", "q": BATCH, "out": BATCH}, ("op", "sys q", "out"))
    async with asyncio.timeout(10):
        result = await run(Meeting("Shorten it."), graph, {"out": [said("too long")]}, ["sys", "q"])
    assert result.failures == ()


async def test_each_question_is_about_its_own_input_and_item(scripted, graph_of):
    """Replies come back to the place they were asked for."""
    model = scripted(
        lambda body: body["messages"][-1]["content"].rsplit('kind="variable">\n', 1)[1].split("\n")[0]
    )
    graph = graph_of({"sys": "S", "q": BATCH, "out": BATCH}, ("op", "sys q", "out"))
    result = await run(model, graph, {"out": [said("too long")]}, ["sys", "q"])
    assert [text for _, text, _ in texts(result, "sys")] == ["S", "S", "S"]
    assert [text for _, text, _ in texts(result, "q")] == ["0", "1", "2"]


@pytest.mark.parametrize("reply", ["", None])
async def test_a_question_without_an_answer_fails_alone(scripted, graph_of, reply):
    """The other inputs keep their gradients."""
    model = scripted(
        lambda body: reply if "\nq1\n" in body["messages"][-1]["content"][-200:] else "Shorten it."
    )
    graph = graph_of({"sys": "s", "q": ["q0", "q1"], "out": ["a", "b"]}, ("op", "sys q", "out"))
    result = await run(model, graph, {"out": [said("too long")]}, ["sys", "q"])
    assert [(failure.variable, failure.sample) for failure in result.failures] == [("q", 1)]
    assert texts(result, "q") == [(0, "Shorten it.", "model")]
    assert len(texts(result, "sys")) == 2
