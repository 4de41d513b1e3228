"""Questions about all inputs at once: what they ask, and what comes of replies that lack something."""

import json
import re
from collections import Counter

import pytest

from backtalk.wire.errors import Code, Refused, Unavailable
from backtalk.wire.graph import Graph

SEVERAL = {"calls": "per_operation"}
DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
BATCH = ["0", "1", "2"]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def wanted(data):
    return {"data": data, "requires_grad": True}


def texts(answer, id):
    return [(one.sample, one.text, one.how) for one in answer.gradients[id]]


def tail(body):
    return body["messages"][-1]["content"].rsplit("# Your task", 1)[1]


def path_in(body):
    """Return the path that a question about one text names."""
    return re.search(r'Give feedback on "([^"]*)"', tail(body))[1]


@pytest.fixture
def three(graph_of):
    """Return a call with three inputs that want a gradient and one that does not."""
    return graph_of(
        {"a": wanted("A"), "b": wanted("B"), "c": wanted("C"), "free": "F", "out": "O"},
        ("op", "a b c free", "out"),
    )


async def test_one_question_is_about_all_inputs(scripted, go_back, three):
    """Each gets its own text of the one reply, as if it had been asked about alone."""
    model = scripted('{"1": "of a", "2": "of b", "3": "of c"}')
    answer = await go_back(model, three, ("out", "Too long."), policy=SEVERAL)
    assert {id: texts(answer, id) for id in "abc"} == {id: [(None, f"of {id}", "model")] for id in "abc"}
    assert (answer.status, answer.usage["calls"]) == ("completed", 1)
    (call,) = answer.calls
    assert (call.purpose, call.operation) == ("ask", "op")
    assert call.inputs == tuple(f"messages/0/content/{at}" for at in range(3))
    assert [one.input for id in "abc" for one in answer.gradients[id]] == list(call.inputs)


async def test_the_question_names_the_wanted_inputs_and_no_other(scripted, go_back, three, asked_for):
    """By the numbers that the reply is to have as keys."""
    model = scripted('{"1": "x", "2": "x", "3": "x"}')
    await go_back(model, three, ("out", "Too long."), policy=SEVERAL)
    (body,) = model.bodies
    assert asked_for(body) == 3
    assert [re.search(rf'Text {at}: "([^"]*)"', tail(body))[1] for at in (1, 2, 3)] == [
        f"messages/0/content/{at}" for at in range(3)
    ]
    assert "content/3" not in tail(body)


async def test_the_instructions_ask_for_what_the_task_asks_for(scripted, go_back, three):
    """A prompt that wants JSON never says that the whole reply is the feedback, and the other way round."""
    several, single = scripted('{"1": "x", "2": "x", "3": "x"}'), scripted("x")
    await go_back(several, three, ("out", "Too long."), policy=SEVERAL)
    await go_back(single, three, ("out", "Too long."))
    (asked,) = several.bodies
    assert "one JSON object" in asked["messages"][0]["content"]
    assert "The whole reply is taken as the feedback" not in asked["messages"][0]["content"]
    assert "Reply with the feedback alone" not in tail(asked)
    for body in single.bodies:
        assert "JSON object" not in body["messages"][0]["content"]
        assert "JSON object" not in tail(body)
        assert "The whole reply is taken as the feedback" in body["messages"][0]["content"]


async def test_a_single_wanted_input_is_asked_about_as_ever(scripted, go_back, three):
    """There is nothing to share, and so no JSON."""
    one, other = scripted("x"), scripted("x")
    answer = await go_back(one, three, ("out", "Too long."), wrt=["b"], policy=SEVERAL)
    await go_back(other, three, ("out", "Too long."), wrt=["b"])
    assert one.bodies == other.bodies
    assert texts(answer, "b") == [(None, "x", "model")]


async def test_every_sample_is_a_question_of_its_own(scripted, go_back, graph_of, always):
    """Without `digest` a batch of three is three questions, of two inputs each."""
    graph = graph_of({"sys": wanted("s"), "q": wanted(BATCH), "out": BATCH}, ("op", "sys q", "out"))
    model = scripted(always("x"))
    answer = await go_back(model, graph, ("out", "Too long."), policy=SEVERAL)
    assert texts(answer, "sys") == texts(answer, "q") == [(at, "x", "model") for at in range(3)]
    assert [call.sample for call in answer.calls] == [0, 1, 2]


async def test_what_a_reply_lacks_is_asked_about_alone(scripted, go_back, three):
    """What it does not lack is kept and not paid again."""
    model = scripted('{"1": "of a", "3": 7}', lambda body: f"alone: {path_in(body)[-1]}")
    answer = await go_back(model, three, ("out", "Too long."), policy=SEVERAL)
    assert texts(answer, "a") == [(None, "of a", "model")]
    assert texts(answer, "b") == [(None, "alone: 1", "model")]
    assert texts(answer, "c") == [(None, "alone: 2", "model")]
    assert (answer.status, answer.failures) == ("completed", ())
    assert [len(call.inputs) for call in answer.calls] == [3, 1, 1]
    assert answer.usage == {"calls": 3, "prompt_tokens": 30, "completion_tokens": 15, "total_tokens": 45}


async def test_a_question_asked_alone_is_the_one_of_the_other_policy(scripted, go_back, three):
    """To the letter: it does not mention the others."""
    several, single = scripted("unreadable", "unreadable", "x"), scripted("x")
    await go_back(several, three, ("out", "Too long."), policy=SEVERAL)
    await go_back(single, three, ("out", "Too long."))
    assert several.bodies[2:] == single.bodies


async def test_an_unreadable_reply_is_asked_again_once_and_then_for_each(scripted, go_back, three, asked_for):
    """Two questions about all of them, then one about each."""
    model = scripted("I would rather not.", "Here: {", "x")
    answer = await go_back(model, three, ("out", "Too long."), policy=SEVERAL)
    assert [asked_for(body) for body in model.bodies] == [3, 3, 1, 1, 1]
    assert model.bodies[0] == model.bodies[1]
    assert (answer.status, answer.usage["calls"]) == ("completed", 5)


async def test_a_second_try_that_can_be_read_is_taken(scripted, go_back, three):
    """And no more is asked."""
    model = scripted("Hm.", '{"1": "of a", "2": "of b", "3": "of c"}')
    answer = await go_back(model, three, ("out", "Too long."), policy=SEVERAL)
    assert texts(answer, "c") == [(None, "of c", "model")]
    assert (answer.status, answer.usage["calls"]) == ("completed", 2)


@pytest.mark.parametrize("trouble", ["", None, DOWN, Refused(Code.UPSTREAM_REJECTED, "no")], ids=repr)
async def test_what_cannot_be_had_alone_either_is_a_failure_of_that_input_alone(
    scripted, go_back, three, asked_for, trouble
):
    """Code and cause are those of the last question."""

    def reply(body):
        if asked_for(body) > 1:
            return '{"2": "of b"}'
        return trouble if 'content/0"' in tail(body) else "alone"

    answer = await go_back(scripted(reply), three, ("out", "Too long."), policy=SEVERAL)
    assert [(one.variable, one.operation, one.sample) for one in answer.failures] == [("a", "op", None)]
    expected = trouble.error.code if isinstance(trouble, Exception) else Code.UPSTREAM_REJECTED
    assert answer.failures[0].error.code == expected
    assert (texts(answer, "a"), texts(answer, "b")) == ([], [(None, "of b", "model")])
    assert texts(answer, "c") == [(None, "alone", "model")]
    assert answer.status == "partial"


async def test_a_question_that_no_endpoint_takes_fails_for_all_its_inputs(scripted, go_back, three):
    """It is not asked again for each: that would not help."""
    model = scripted(DOWN)
    answer = await go_back(model, three, ("out", "Too long."), policy=SEVERAL)
    assert [one.variable for one in answer.failures] == ["a", "b", "c"]
    assert {one.error.code for one in answer.failures} == {Code.UPSTREAM_UNAVAILABLE}
    assert (answer.status, answer.error.code) == ("failed", Code.UPSTREAM_UNAVAILABLE)
    assert len(model.bodies) == 1


async def test_one_bad_sample_leaves_the_others_and_the_rest_of_the_graph(
    scripted, go_back, graph_of, asked_for
):
    """Of 48 samples 47 have their gradients, and what lies before them as well."""
    count = 48
    items = [f"item-{at}" for at in range(count)]
    graph = graph_of(
        {
            "first": wanted("f"),
            "mid": items,
            "sys": wanted("s"),
            "q": [f"question {at}" for at in range(count)],
            "out": [f"out {at}" for at in range(count)],
        },
        ("one", "first q", "mid"),
        ("two", "sys mid", "out"),
    )

    def reply(body):
        if "\nout 7\n" in body["messages"][-1]["content"]:
            return DOWN
        several = asked_for(body)
        return json.dumps({str(at): "x" for at in range(1, several + 1)}) if several > 1 else "x"

    for policy in (SEVERAL, {}):
        answer = await go_back(scripted(reply), graph, ("out", "Too long."), policy=policy)
        rest = [(at, "x", "model") for at in range(count) if at != 7]
        assert texts(answer, "sys") == texts(answer, "first") == rest
        assert answer.status == "partial"
        assert {(one.variable, one.operation, one.sample) for one in answer.failures} == {
            ("sys", "two", 7),
            ("mid", "two", 7),
        }


async def test_no_feedback_for_one_input_ends_the_way_there(scripted, go_back, graph_of):
    """Its siblings go on."""
    graph = graph_of(
        {"x": wanted("X"), "y": wanted("Y"), "a": "A", "b": "B", "out": "O"},
        ("one", "x", "a"),
        ("two", "y", "b"),
        ("three", "a b", "out"),
    )
    model = scripted('{"1": "NO FEEDBACK", "2": "of b"}', "of y")
    answer = await go_back(model, graph, ("out", "Too long."), policy=SEVERAL)
    assert texts(answer, "x") == [(None, "", "empty")]
    assert texts(answer, "y") == [(None, "of y", "model")]
    assert answer.usage["calls"] == 2


async def test_functions_are_asked_about_like_calls(scripted, go_back, always):
    """All inputs of a function that a gradient passes by a question."""
    told = {"role": "r", "requires_grad": True}
    graph = Graph.model_validate(
        {
            "variables": [
                {"id": "a", "data": "A", **told},
                {"id": "b", "data": "B", **told},
                {"id": "out", "data": "AB", "role": "sum", "producer": "f"},
            ],
            "operations": [
                {
                    "id": "f",
                    "op": "function",
                    "name": "glue",
                    "description": "Glues.",
                    "parameters": ["left", "right"],
                    "inputs": ["a", "b"],
                    "outputs": ["out"],
                    "transmit": "model",
                }
            ],
        }
    )
    model = scripted(always("x"))
    answer = await go_back(model, graph, ("out", "Too long."), policy=SEVERAL, named="critic")
    assert texts(answer, "a") == texts(answer, "b") == [(None, "x", "model")]
    assert answer.usage["calls"] == 1


async def test_a_variable_read_twice_is_asked_about_at_both_places(scripted, go_back, graph_of):
    """Two entries, of the two texts of one reply."""
    graph = graph_of({"a": wanted("A"), "out": "O"}, ("op", "a a", "out"))
    model = scripted('{"1": "here", "2": "there"}')
    answer = await go_back(model, graph, ("out", "Too long."), policy=SEVERAL)
    assert [one.text for one in answer.gradients["a"]] == ["here", "there"]


async def test_places_of_calls_are_never_the_same(scripted, go_back, graph_of, always):
    """What was paid is remembered by its place: tries, fallbacks, samples, parts and mergers included."""
    count = 12
    graph = graph_of(
        {
            "sys": wanted("s"),
            "q": wanted(["word " * 60] * count),
            "r": wanted([f"{at}" for at in range(count)]),
            "mid": ["m"] * count,
            "out": ["o"] * count,
        },
        ("one", "sys q r", "mid"),
        ("two", "sys mid", "out"),
    )
    asked = Counter()

    def reply(body):
        asked["all"] += 1
        return "no JSON" if asked["all"] % 3 == 0 else always("word " * 50)(body)

    for calls in ("per_variable", "per_operation"):
        for batch in ("per_sample", "digest"):
            model = scripted(reply)
            policy = {"calls": calls, "batch": batch, "summary": True, "prompt_tokens": 1000}
            await go_back(model, graph, ("out", "Too long."), policy=policy)
            assert max(Counter(model.places).values()) == 1
