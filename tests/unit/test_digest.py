"""One gradient of all samples for what they share: who is asked about what, and what comes of it."""

import asyncio
import json
import re
import sys

import pytest

from backtalk.wire.errors import Code, Unavailable
from backtalk.wire.graph import Graph

DIGEST = {"batch": "digest"}
DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
FENCED = re.compile(r'<fence-(?P<mark>\w+) kind="\w+">\n.*?\n</fence-(?P=mark)>', re.DOTALL)


def wanted(data):
    return {"data": data, "requires_grad": True}


def entries(answer, id):
    return [(one.sample, one.text, one.how) for one in answer.gradients[id]]


def own_words(body):
    return FENCED.sub("", body["messages"][-1]["content"])


def texts_asked(body):
    """Return the paths and samples that a question names at its end."""
    task = own_words(body).rsplit("# Your task", 1)[1]
    return re.findall(r'(?:on|Text \d+:) "([^"]*)", "[^"]*"(?:, of sample (\d+))?:', task)


@pytest.fixture
def batch_of(graph_of):
    """Return the maker of a call for a batch: `sys` is shared, `q` is not, and both want a gradient."""

    def build(count, **more):
        return graph_of(
            {
                "sys": wanted("Be kind."),
                "q": wanted([f"question {at}" for at in range(count)]),
                "out": [f"answer {at}" for at in range(count)],
                **more,
            },
            ("op", "sys q", "out"),
        )

    return build


async def test_what_is_shared_gets_one_entry_and_what_is_not_one_for_each_sample(
    scripted, go_back, batch_of, always
):
    """Thirty-three samples: one question about what they share, one about the thirty-three."""
    model = scripted(always("x"))
    answer = await go_back(model, batch_of(33), ("out", "Too long."), policy=DIGEST)
    assert entries(answer, "sys") == [(None, "x", "model")]
    assert entries(answer, "q") == [(at, "x", "model") for at in range(33)]
    assert answer.usage["calls"] == len(model.bodies) == 2
    assert {call.sample for call in answer.calls} == {None}


async def test_without_digest_there_are_as_many_entries_as_samples(scripted, go_back, batch_of):
    """The same batch, asked about sample by sample."""
    answer = await go_back(scripted("x"), batch_of(33), ("out", "Too long."), wrt=["sys"])
    assert entries(answer, "sys") == [(at, "x", "model") for at in range(33)]


async def test_all_inputs_of_all_samples_fit_into_one_question(scripted, go_back, batch_of, always):
    """With `per_operation` as well there is one call in all."""
    model = scripted(always("x"))
    policy = {**DIGEST, "calls": "per_operation"}
    answer = await go_back(model, batch_of(3), ("out", "Too long."), policy=policy)
    assert texts_asked(model.bodies[0]) == [
        ("messages/0/content/0", ""),
        *(("messages/0/content/1", str(at)) for at in range(3)),
    ]
    assert len(model.bodies) == 1
    assert entries(answer, "sys") == [(None, "x", "model")]


async def test_every_sample_gets_its_own_text_of_a_grouped_call(scripted, go_back, batch_of):
    """By the number it was given in the question, whatever the order of the keys."""
    model = scripted('{"3": "of two", "1": "of zero", "2": "of one"}')
    answer = await go_back(model, batch_of(3), ("out", "Too long."), wrt=["q"], policy=DIGEST)
    assert entries(answer, "q") == [(0, "of zero", "model"), (1, "of one", "model"), (2, "of two", "model")]


async def test_every_sample_is_shown_and_counted(scripted, go_back, batch_of):
    """Those with nothing to criticise and those that failed are told by their number."""
    graph = batch_of(6, out=["answer 0", "answer 1", None, "answer 3", "answer 4", "answer 5"])
    model = scripted("x")
    texts = ["Too long.", "", "never read", "Wrong.", "", "Rude."]
    answer = await go_back(model, graph, ("out", texts), wrt=["sys"], policy=DIGEST)
    (body,) = model.bodies
    words = own_words(body)
    assert "The program did this 6 times" in words
    assert "3 shown here" in words
    assert "2 had nothing to criticise" in words
    assert "1 had no answer" in words
    assert re.findall(r"^## Sample (\d+)$", words, re.MULTILINE) == ["0", "3", "5"]
    shown = body["messages"][-1]["content"]
    for text in ("answer 0", "answer 3", "answer 5", "Too long.", "Wrong.", "Rude."):
        assert f">\n{text}\n<" in shown
    assert "answer 1" not in shown
    assert "never read" not in shown
    assert entries(answer, "sys") == [(None, "x", "model")]


async def test_samples_with_nothing_to_criticise_have_empty_entries_and_failed_ones_none(
    scripted, go_back, batch_of, always
):
    """What is aligned with the batch stays so."""
    graph = batch_of(4, out=["answer 0", "answer 1", None, "answer 3"])
    texts = ["Too long.", "", "never read", "Wrong."]
    answer = await go_back(scripted(always("x")), graph, ("out", texts), policy=DIGEST)
    assert entries(answer, "q") == [(0, "x", "model"), (1, "", "empty"), (3, "x", "model")]
    assert answer.status == "completed"


async def test_a_batch_with_nothing_to_criticise_is_one_empty_entry_and_no_call(scripted, go_back, batch_of):
    """Thirty-three of thirty-three were right."""
    model = scripted("never asked")
    answer = await go_back(model, batch_of(33), ("out", ""), wrt=["sys"], policy=DIGEST)
    assert entries(answer, "sys") == [(None, "", "empty")]
    assert answer.gradients["sys"][0].feedback == ("feedback/0",)
    assert (answer.usage["calls"], model.bodies) == (0, [])


async def test_a_single_sample_is_digested_in_the_same_form(scripted, go_back, batch_of):
    """A batch of one is a batch."""
    answer = await go_back(scripted("x"), batch_of(1), ("out", "Too long."), policy=DIGEST)
    assert entries(answer, "sys") == [(None, "x", "model")]
    assert entries(answer, "q") == [(0, "x", "model")]


async def test_a_call_of_no_batch_is_asked_about_as_ever(scripted, go_back, graph_of):
    """There is nothing to digest."""
    graph = graph_of({"sys": wanted("s"), "out": "o"}, ("op", "sys", "out"))
    one, other = scripted("x"), scripted("x")
    await go_back(one, graph, ("out", "Too long."), policy=DIGEST)
    await go_back(other, graph, ("out", "Too long."))
    assert one.bodies == other.bodies


async def test_an_entry_of_a_digest_names_all_feedback_behind_it(scripted, go_back, batch_of):
    """Of every sample, once, in its order."""
    items = [
        {"variable": "out", "text": ["a", "", ""], "id": "first"},
        {"variable": "out", "text": ["", "", "c"], "id": "second"},
    ]
    answer = await go_back(scripted("x"), batch_of(3), *items, wrt=["sys"], policy=DIGEST)
    assert answer.gradients["sys"][0].feedback == ("first", "second")


async def test_each_id_of_a_list_keeps_its_own_sample(scripted, go_back, graph_of, always):
    """An input given as a list of ids is aligned with the batch, whatever its variables are."""
    graph = graph_of(
        {"a": wanted("A"), "b": wanted("B"), "sys": wanted("s {x}"), "out": ["0", "1"]},
        ("op", "sys", "out", {"inputs": {"x": ["a", "b"]}}),
    )
    model = scripted(always("x"))
    answer = await go_back(model, graph, ("out", "Too long."), policy=DIGEST)
    assert entries(answer, "a") == [(0, "x", "model")]
    assert entries(answer, "b") == [(1, "x", "model")]
    assert entries(answer, "sys") == [(None, "x", "model")]
    assert len(model.bodies) == 2


async def test_a_text_that_is_asked_about_is_not_said_to_stay_as_it_is(scripted, go_back, graph_of, always):
    """Also where it belongs to a sample that is not the first."""
    graph = graph_of(
        {"a": "A", "b": wanted("B"), "sys": "s {x}", "out": ["0", "1"]},
        ("op", "sys", "out", {"inputs": {"x": ["a", "b"]}}),
    )
    model = scripted(always("x"))
    await go_back(model, graph, ("out", "Too long."), policy=DIGEST)
    (body,) = model.bodies
    assert texts_asked(body) == [("inputs/x", "1")]
    assert '"role of b": stays as it is' not in own_words(body)
    assert not re.search(r'^- "inputs/x".*: stays as it is$', own_words(body), re.MULTILINE)


async def test_what_a_map_lacks_is_asked_about_alone(scripted, go_back, batch_of, asked_for):
    """One sample of three, by its own question."""
    model = scripted(lambda body: '{"1": "of zero", "3": "of two"}' if asked_for(body) > 1 else "of one")
    answer = await go_back(model, batch_of(3), ("out", "Too long."), wrt=["q"], policy=DIGEST)
    assert entries(answer, "q") == [(0, "of zero", "model"), (1, "of one", "model"), (2, "of two", "model")]
    assert [call.sample for call in answer.calls] == [None, 1]
    assert texts_asked(model.bodies[1]) == [("messages/0/content/1", "1")]


async def test_a_sample_that_cannot_be_had_fails_alone(scripted, go_back, batch_of, asked_for):
    """With its number."""
    model = scripted(lambda body: '{"1": "of zero", "3": "of two"}' if asked_for(body) > 1 else "")
    answer = await go_back(model, batch_of(3), ("out", "Too long."), wrt=["q"], policy=DIGEST)
    assert [(one.variable, one.sample, one.error.code) for one in answer.failures] == [
        ("q", 1, Code.UPSTREAM_REJECTED)
    ]
    assert entries(answer, "q") == [(0, "of zero", "model"), (2, "of two", "model")]
    assert answer.status == "partial"


async def test_one_sample_that_contradicts_its_graph_fails_alone(scripted, go_back, batch_of, always):
    """An answer to an item that failed before cannot be shown; the others can, as they can without `digest`."""
    graph = batch_of(8, q=wanted([None, *(f"question {at}" for at in range(1, 8))]))
    without = await go_back(scripted(always("x")), graph, ("out", "Too long."), wrt=["q"])
    assert [one.sample for one in without.gradients["q"]] == list(range(1, 8))
    answer = await go_back(scripted(always("x")), graph, ("out", "Too long."), policy=DIGEST)
    assert [one.sample for one in answer.gradients["q"]] == list(range(1, 8))
    assert [one.incomplete for one in answer.gradients["sys"]] == [True]


async def test_a_batch_that_contradicts_its_graph_is_looked_at_once(scripted, go_back, batch_of, always):
    """Not once for each of its samples."""

    async def effort(count):
        graph = batch_of(count, q=wanted([*(f"question {at}" for at in range(count - 1)), None]))
        called = 0

        def count_one(frame, event, arg):
            nonlocal called
            called += event == "call"

        sys.setprofile(count_one)
        try:
            await go_back(scripted(always("x")), graph, ("out", "Too long."), policy=DIGEST)
        finally:
            sys.setprofile(None)
        return called

    await effort(5)
    assert await effort(90) < 4.5 * await effort(30)


async def test_a_failed_group_leaves_an_incomplete_entry_and_a_failure(
    scripted, go_back, batch_of, asked_for
):
    """What the other groups say is merged and kept; what lies before goes on."""
    graph = batch_of(16, q=wanted([f"question {at} " + "word " * 60 for at in range(16)]))

    def reply(body):
        if "answer 0\n" in body["messages"][-1]["content"]:
            return DOWN
        several = asked_for(body)
        return json.dumps({str(at): "x" for at in range(1, several + 1)}) if several > 1 else "x"

    model = scripted(reply)
    policy = {**DIGEST, "prompt_tokens": 1600}
    answer = await go_back(model, graph, ("out", "Too long."), policy=policy)
    (entry,) = answer.gradients["sys"]
    assert (entry.sample, entry.incomplete, entry.how) == (None, True, "merged")
    (shared,) = (one for one in answer.failures if one.variable == "sys")
    assert (shared.operation, shared.sample, shared.error.code) == ("op", None, Code.UPSTREAM_UNAVAILABLE)
    lost = {one.sample for one in answer.failures if one.variable == "q"}
    assert 0 in lost
    assert len(lost) < 8
    assert {one.sample for one in answer.gradients["q"]} == set(range(16)) - lost
    assert not any(one.incomplete for one in answer.gradients["q"])
    assert answer.status == "partial"


async def test_what_failed_in_a_digest_makes_what_lies_before_incomplete(
    scripted, go_back, graph_of, asked_for
):
    """One sample of an interior batch is lost: its sample before it, and what all share there, say so."""
    graph = graph_of(
        {
            "first": wanted("f"),
            "q": wanted(["q0", "q1", "q2"]),
            "mid": ["m0", "m1", "m2"],
            "out": ["o0", "o1", "o2"],
        },
        ("one", "first q", "mid"),
        ("two", "mid", "out"),
    )

    def reply(body):
        shown = body["messages"][-1]["content"]
        if "\no1\n" in shown:
            return '{"1": "x", "3": "x"}' if asked_for(body) > 1 else ""
        return '{"1": "y", "2": "y"}' if asked_for(body) > 1 else "y"

    answer = await go_back(scripted(reply), graph, ("out", "Too long."), policy=DIGEST)
    assert [(one.variable, one.sample) for one in answer.failures] == [("mid", 1)]
    assert [(one.sample, one.incomplete) for one in answer.gradients["first"]] == [(None, True)]
    assert [(one.sample, one.incomplete) for one in answer.gradients["q"]] == [(0, False), (2, False)]


# ---- with other kinds of operations


@pytest.mark.parametrize("transmit", ["model", "verbatim"])
async def test_functions_are_digested(scripted, go_back, always, transmit):
    """By a question, or by saying everything that was said once."""
    graph = Graph.model_validate(
        {
            "variables": [
                {"id": "shared", "data": "S", "role": "style", "requires_grad": True},
                {"id": "q", "data": ["0", "1"], "role": "question", "requires_grad": True},
                {"id": "out", "data": ["S0", "S1"], "role": "answer", "producer": "f"},
            ],
            "operations": [
                {
                    "id": "f",
                    "op": "function",
                    "name": "glue",
                    "description": "Glues.",
                    "parameters": ["left", "right"],
                    "inputs": ["shared", "q"],
                    "outputs": ["out"],
                    "transmit": transmit,
                }
            ],
        }
    )
    model = scripted(always("x"))
    answer = await go_back(model, graph, ("out", ["Long.", "Rude."]), policy=DIGEST, named="critic")
    (entry,) = answer.gradients["shared"]
    assert entry.sample is None
    assert [one.sample for one in answer.gradients["q"]] == [0, 1]
    if transmit == "model":
        assert entry.text == "x"
        assert len(model.bodies) == 2
        assert "A function, called for a batch" in own_words(model.bodies[0])
    else:
        assert "Long." in entry.text
        assert "Rude." in entry.text
        assert model.bodies == []


async def test_an_evaluation_in_front_is_digested(scripted, go_back):
    """The samples that succeeded are counted, those that failed are shown with their own explanation."""
    graph = Graph.model_validate(
        {
            "variables": [
                {"id": "sys", "data": "Add.", "role": "instruction", "requires_grad": True},
                {"id": "q", "data": ["0", "1", "2"], "role": "question"},
                {"id": "out", "data": ["0", "2", "3"], "role": "sum", "producer": "chat"},
                {"id": "score", "data": 0.3, "role": "score", "producer": "eval"},
                {"id": "why", "data": "Two are wrong.", "role": "explanation", "producer": "eval"},
            ],
            "operations": [
                {
                    "id": "chat",
                    "op": "chat_completion",
                    "endpoint": "openai",
                    "model": "m",
                    "messages": [{"role": "user", "content": ["sys", "q"]}],
                    "outputs": ["out"],
                },
                {
                    "id": "eval",
                    "op": "evaluate",
                    "inputs": ["out"],
                    "outputs": ["score", "why"],
                    "purpose": "exact match",
                    "scores": [1, 0, 0],
                    "explanations": ["", "It should be 1.", "It should be 2."],
                    "succeeded": [True, False, False],
                    "reduction": "mean",
                },
            ],
        }
    )
    model = scripted("x")
    answer = await go_back(model, graph, ("score", None), wrt=["sys", "out"], policy=DIGEST)
    assert entries(answer, "sys") == [(None, "x", "model")]
    assert [one.text for one in answer.gradients["out"]] == ["", "It should be 1.", "It should be 2."]
    (body,) = model.bodies
    assert "2 shown here, 1 had nothing to criticise" in own_words(body)


async def test_texts_of_tools_are_shared(scripted, go_back, graph_of):
    """A description of a tool is asked about once for the batch, with its place."""
    tool = {"type": "function", "function": {"name": "look", "description": {"variable": "d"}}}
    graph = graph_of(
        {"d": wanted("Looks things up."), "q": ["0", "1"], "out": ["a", "b"]},
        ("op", "q", "out", {"tools": [tool]}),
    )
    model = scripted("x")
    answer = await go_back(model, graph, ("out", "Wrong."), policy=DIGEST)
    assert entries(answer, "d") == [(None, "x", "model")]
    assert texts_asked(model.bodies[0]) == [("tools/0/function/description", "")]


@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
async def test_several_choices_and_edits_are_shown(scripted, go_back, always, calls):
    """Each choice by its number, each edit behind the answer it replaced."""
    graph = Graph.model_validate(
        {
            "variables": [
                {"id": "sys", "data": "S", "role": "r", "requires_grad": True},
                {"id": "q", "data": ["0", "1"], "role": "r", "requires_grad": True},
                {"id": "a", "data": ["a0", "a1"], "role": "r", "producer": "op"},
                {"id": "b", "data": ["b0", None], "role": "r", "producer": "op"},
                {"id": "e", "data": ["e0", "e1"], "role": "r", "producer": "edit"},
            ],
            "operations": [
                {
                    "id": "op",
                    "op": "chat_completion",
                    "endpoint": "openai",
                    "model": "m",
                    "messages": [{"role": "user", "content": ["sys", "q"]}],
                    "outputs": ["a", "b"],
                },
                {"id": "edit", "op": "edit", "inputs": ["a"], "outputs": ["e"]},
            ],
        }
    )
    model = scripted(always("x"))
    policy = {**DIGEST, "calls": calls}
    answer = await go_back(model, graph, ("e", "Wrong."), ("b", ["Long.", "never read"]), policy=policy)
    assert entries(answer, "sys") == [(None, "x", "model")]
    shown = model.bodies[0]["messages"][-1]["content"]
    for text in ("a0", "a1", "b0", "e0", "e1", "Long."):
        assert f">\n{text}\n<" in shown
    assert "never read" not in shown


@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
@pytest.mark.parametrize("batch", ["per_sample", "digest"])
@pytest.mark.parametrize("count", [None, 2])
async def test_a_call_without_a_message_is_no_trouble(
    scripted, go_back, graph_of, always, calls, batch, count
):
    """Neither one with no messages nor one whose message has no content."""
    out = "o" if count is None else ["o"] * count
    q = wanted("q") if count is None else wanted(["q"] * count)
    for messages in ([], [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]):
        graph = graph_of(
            {"q": q, "r": wanted("R"), "out": out},
            ("op", "", "out", {"messages": messages, "inputs": {"q": "q", "r": "r"}}),
        )
        policy = {"calls": calls, "batch": batch, "context": True, "summary": True}
        answer = await go_back(scripted(always("x")), graph, ("out", "Wrong."), policy=policy)
        assert answer.status == "completed"
        assert {one.text for id in "qr" for one in answer.gradients[id]} == {"x"}


async def test_a_large_batch_lets_other_work_go_on(scripted, go_back, batch_of, always):
    """Looking at all of its samples takes many turns of the loop."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    model = scripted(always("x"))
    beside = asyncio.create_task(others())
    await go_back(model, batch_of(2000), ("out", "Too long."), policy={**DIGEST, "prompt_tokens": 10**9})
    beside.cancel()
    assert len(model.bodies) == 2
    assert turns > 20
