"""One text for all gradients of a variable, beside the list of them."""

import re

import pytest

from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Code, Unavailable
from backtalk.wire.feedback import Gradients
from backward_worker.tokens import estimated

SUMMARY = {"summary": True}
DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
FEEDBACK = re.compile(r'<fence-(\w+) kind="feedback">\n(.*?)\n</fence-\1>', re.DOTALL)


def wanted(data):
    return {"data": data, "requires_grad": True}


def is_merger(body):
    return "you make one feedback of theirs" in body["messages"][0]["content"]


def mergers(model):
    return [body for body in model.bodies if is_merger(body)]


def shown_in(body):
    return [text for _, text in FEEDBACK.findall(body["messages"][-1]["content"])]


def replying(summary, other="x"):
    return lambda body: summary if is_merger(body) else other


@pytest.fixture
def fan(graph_of):
    """Return the maker of a variable that so many calls read."""

    def build(count):
        outs = {f"o{at}": f"answer {at}" for at in range(count)}
        graph = graph_of(
            {"sys": wanted("Be kind."), **outs}, *((f"op{at}", "sys", f"o{at}") for at in range(count))
        )
        return graph, [(id, "Too long.") for id in outs]

    return build


async def test_without_the_wish_there_is_none(scripted, go_back, fan):
    """Neither a summary nor a field for it."""
    graph, items = fan(2)
    answer = await go_back(scripted("x"), graph, *items)
    assert answer.summaries == {}
    assert b"summaries" not in encode(answer)


async def test_a_summary_stands_beside_the_list_it_was_made_of(scripted, go_back, fan):
    """The entries are as they are without it."""
    graph, items = fan(3)
    model = scripted(replying("all of it"))
    answer = await go_back(model, graph, *items, policy=SUMMARY)
    plain = await go_back(scripted("x"), graph, *items)
    assert answer.gradients == plain.gradients
    assert answer.summaries["sys"].model_dump() == {
        "text": "all of it",
        "role": "feedback to role of sys",
        "how": "merged",
        "entries": (0, 1, 2),
        "feedback": ("feedback/0", "feedback/1", "feedback/2"),
    }
    (body,) = mergers(model)
    assert shown_in(body) == ["x", "x", "x"]
    assert answer.usage["calls"] == 4
    assert decode(encode(answer), Gradients) == answer


async def test_a_summary_is_paid_like_any_call_but_belongs_to_no_operation(scripted, go_back, fan):
    """The sums add up: those of the operations, and those of the summaries."""
    graph, items = fan(2)
    answer = await go_back(scripted(replying("all")), graph, *items, policy=SUMMARY)
    assert [(call.purpose, call.operation, call.inputs) for call in answer.calls][-1] == (
        "summary",
        None,
        ("sys",),
    )
    by_operation = sum(used["total_tokens"] for used in answer.usage_by_operation.values())
    summaries = sum(call.usage["total_tokens"] for call in answer.calls if call.operation is None)
    assert by_operation + summaries == answer.usage["total_tokens"] == 45


async def test_a_single_voice_needs_no_question(scripted, go_back, fan):
    """Its words are the summary."""
    graph, items = fan(1)
    model = scripted("x")
    answer = await go_back(model, graph, *items, policy=SUMMARY)
    summary = answer.summaries["sys"]
    assert (summary.text, summary.how, summary.entries) == ("x", "copied", (0,))
    assert len(model.bodies) == 1


async def test_silent_entries_are_not_in_it(scripted, go_back, graph_of):
    """Their places are left out, and those of the others stay."""
    graph = graph_of(
        {"sys": wanted("s"), "q": ["0", "1", "2"], "out": ["a", "b", "c"]}, ("op", "sys q", "out")
    )
    model = scripted(replying("all"))
    answer = await go_back(model, graph, ("out", ["Bad.", "", "Bad."]), policy=SUMMARY)
    assert answer.summaries["sys"].entries == (0, 2)
    assert len(shown_in(mergers(model)[0])) == 2


async def test_where_nobody_criticised_the_summary_is_empty_and_where_nobody_spoke_there_is_none(
    scripted, go_back, graph_of
):
    """Empty is not missing."""
    graph = graph_of({"sys": wanted("s"), "far": wanted("f"), "out": "o"}, ("op", "sys", "out"))
    model = scripted("never asked")
    answer = await go_back(model, graph, ("out", ""), policy=SUMMARY)
    assert (answer.summaries["sys"].text, answer.summaries["sys"].how) == ("", "empty")
    assert answer.summaries["sys"].entries == ()
    assert "far" not in answer.summaries
    assert model.bodies == []


async def test_a_summary_is_capped_and_says_so(scripted, go_back, fan):
    """The question tells the cap; a model that does not keep to it is cut."""
    graph, items = fan(2)
    model = scripted(replying("y" * 500))
    policy = {**SUMMARY, "summary_characters": 200}
    answer = await go_back(model, graph, *items, policy=policy)
    summary = answer.summaries["sys"]
    assert summary.text == "y" * 199 + "…"
    assert summary.cut
    assert "at most 200 characters" in mergers(model)[0]["messages"][-1]["content"]


@pytest.mark.parametrize("length", [199, 200, 201])
async def test_the_cap_is_the_longest_summary(scripted, go_back, fan, length):
    """To the character."""
    graph, items = fan(2)
    policy = {**SUMMARY, "summary_characters": 200}
    answer = await go_back(scripted(replying("y" * length)), graph, *items, policy=policy)
    assert len(answer.summaries["sys"].text) == min(length, 200)
    assert answer.summaries["sys"].cut == (length > 200)


async def test_a_single_voice_that_is_too_long_is_made_shorter_by_a_question(scripted, go_back, fan):
    """And its entry stays as it was said."""
    graph, items = fan(1)
    model = scripted(replying("short", "long " * 100))
    policy = {**SUMMARY, "summary_characters": 200}
    answer = await go_back(model, graph, *items, policy=policy)
    assert (answer.summaries["sys"].text, answer.summaries["sys"].how) == ("short", "merged")
    assert answer.gradients["sys"][0].text == ("long " * 100).strip()


async def test_sixty_four_voices_are_merged_under_the_budget_of_a_prompt(scripted, go_back, fan):
    """Nothing is dropped: each entry stands in one question, and the summary lists them all."""
    graph, items = fan(64)
    said = iter(range(64))

    def reply(body):
        return f"merged {len(shown_in(body))}" if is_merger(body) else f"{next(said)}. " + "word " * 60

    model = scripted(reply)
    answer = await go_back(model, graph, *items, policy={**SUMMARY, "prompt_tokens": 3000})
    texts = [text for body in mergers(model) for text in shown_in(body)]
    assert all(texts.count(entry.text) == 1 for entry in answer.gradients["sys"])
    assert answer.summaries["sys"].entries == tuple(range(64))
    for body in mergers(model):
        assert sum(estimated(message["content"]) for message in body["messages"]) <= 3000


async def test_a_summary_that_cannot_be_made_is_a_failure_and_what_was_said_is_kept(scripted, go_back, fan):
    """The entries are there, and the summary is all of them, one behind the other."""
    graph, items = fan(2)
    answer = await go_back(scripted(replying(DOWN)), graph, *items, policy=SUMMARY)
    assert answer.status == "partial"
    assert [(one.variable, one.operation, one.error.code) for one in answer.failures] == [
        ("sys", None, Code.UPSTREAM_UNAVAILABLE)
    ]
    assert answer.summaries["sys"].text == "x\nx"
    assert [entry.text for entry in answer.gradients["sys"]] == ["x", "x"]


async def test_a_summary_of_what_is_incomplete_says_so(scripted, go_back, fan):
    """Where one of its voices failed, its reader should know."""
    graph, items = fan(3)

    def reply(body):
        return DOWN if "\nanswer 1\n" in body["messages"][-1]["content"] else replying("all")(body)

    answer = await go_back(scripted(reply), graph, *items, policy=SUMMARY)
    assert [one.operation for one in answer.failures] == ["op1"]
    assert answer.summaries["sys"].entries == (0, 1)
    assert answer.summaries["sys"].incomplete


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
async def test_a_batch_is_summed_up_as_a_whole(scripted, go_back, graph_of, always, batch):
    """Its samples are named; what the batch holds is not shown."""
    graph = graph_of({"q": wanted(["zero", "one"]), "out": ["a", "b"]}, ("op", "q", "out"))
    model = scripted(lambda body: "all" if is_merger(body) else always("x")(body))
    answer = await go_back(model, graph, ("out", "Bad."), policy={**SUMMARY, "batch": batch})
    assert answer.summaries["q"].text == "all"
    prompt = mergers(model)[0]["messages"][-1]["content"]
    assert "for item 0 of a batch" in prompt
    assert "for item 1 of a batch" in prompt
    assert "[a batch of 2]" in prompt


async def test_feedback_on_the_wanted_variable_itself_is_summed_up_as_well(scripted, go_back, graph_of):
    """Beside what its readers say."""
    graph = graph_of({"sys": wanted("s"), "out": "o"}, ("op", "sys", "out"))
    model = scripted(replying("all"))
    answer = await go_back(model, graph, ("sys", "Direct."), ("out", "Bad."), policy=SUMMARY)
    assert answer.summaries["sys"].entries == (0, 1)
    assert shown_in(mergers(model)[0]) == ["Direct.", "x"]
