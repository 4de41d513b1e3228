"""What the whole program was judged by, shown to the steps far from its end."""

import re

import pytest

from backtalk.wire.graph import Graph
from backward_worker.tokens import estimated

CONTEXT = {"context": True}
HEADING = "# What the whole program was judged by"
FENCED = re.compile(
    r'<fence-(?P<mark>\w+) kind="(?P<kind>\w+)">\n(?P<text>.*?)\n</fence-(?P=mark)>', re.DOTALL
)
BATCH = ["0", "1", "2"]


def wanted(data):
    return {"data": data, "requires_grad": True}


def section(body):
    """Return what a question says of the end of the program, None where it says nothing."""
    prompt = body["messages"][-1]["content"]
    if HEADING not in prompt:
        return None
    return prompt[prompt.index(HEADING) : prompt.rindex("# Your task")]


def context(body, kind):
    return [found["text"] for found in FENCED.finditer(section(body) or "") if found["kind"] == kind]


def about(model, text):
    """Return the questions whose model answered this."""
    return [body for body in model.bodies if f'kind="output">\n{text}\n<' in body["messages"][-1]["content"]]


@pytest.fixture
def chain(graph_of):
    """Return three calls one after another."""
    return graph_of(
        {"sys": wanted("s"), "a": "A", "b": "B", "end": {"data": "The end.", "role": "report"}},
        ("one", "sys", "a"),
        ("two", "a", "b"),
        ("three", "b", "end"),
    )


async def test_every_operation_sees_the_end_and_what_was_said_of_it(scripted, go_back, chain):
    """But the last one, which is shown both anyway."""
    model = scripted("x")
    said = {"variable": "end", "text": "Too gloomy.", "source": "the editor"}
    await go_back(model, chain, said, policy=CONTEXT)
    last, *others = model.bodies
    assert section(last) is None
    assert len(others) == 2
    for body in others:
        assert context(body, "result") == ["The end."]
        assert context(body, "feedback") == ["Too gloomy."]
        assert 'By "the editor", of "report"' in section(body)
        assert 'kind="result"' in body["messages"][0]["content"]
    assert 'kind="result"' not in last["messages"][0]["content"]


async def test_without_the_wish_nobody_sees_it(scripted, go_back, chain):
    """The prompts are as they were."""
    model = scripted("x")
    await go_back(model, chain, ("end", "Too gloomy."))
    assert all(section(body) is None for body in model.bodies)


async def test_each_sample_sees_its_own_end(scripted, go_back, graph_of):
    """And no other's."""
    ends = ["end 0", "end 1", "end 2"]
    graph = graph_of(
        {"sys": wanted("s"), "q": BATCH, "mid": BATCH, "end": ends},
        ("one", "sys q", "mid"),
        ("two", "mid", "end"),
    )
    model = scripted("x")
    await go_back(model, graph, ("end", ["of 0", "", "of 2"]), policy=CONTEXT)
    seen = [(context(body, "result"), context(body, "feedback")) for body in model.bodies if section(body)]
    assert seen == [(["end 0"], ["of 0"]), (["end 2"], ["of 2"])]


async def test_a_single_text_is_that_of_each_sample(scripted, go_back, graph_of):
    """Each is shown its own end beside it."""
    graph = graph_of(
        {"sys": wanted("s"), "q": BATCH, "mid": BATCH, "end": ["e0", "e1", "e2"]},
        ("one", "sys q", "mid"),
        ("two", "mid", "end"),
    )
    model = scripted("x")
    await go_back(model, graph, ("end", "Bad."), policy=CONTEXT)
    assert [context(body, "result") for body in model.bodies if section(body)] == [["e0"], ["e1"], ["e2"]]


async def test_a_digest_sees_the_ends_of_all_samples_it_shows(scripted, go_back, graph_of, always):
    """Those that were criticised."""
    graph = graph_of(
        {"sys": wanted("s"), "q": BATCH, "mid": BATCH, "end": ["e0", "e1", "e2"]},
        ("one", "sys q", "mid"),
        ("two", "mid", "end"),
    )
    model = scripted(always("x"))
    await go_back(model, graph, ("end", ["a", "", "c"]), policy={**CONTEXT, "batch": "digest"})
    (seen,) = (body for body in model.bodies if section(body))
    assert context(seen, "result") == ["e0", "e2"]
    assert context(seen, "feedback") == ["a", "c"]


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
async def test_an_evaluation_is_told_with_its_score_and_explanation(scripted, go_back, batch, always):
    """Of the sample in question."""
    chat = {"op": "chat_completion", "endpoint": "openai", "model": "m"}
    graph = Graph.model_validate(
        {
            "variables": [
                {"id": "sys", "data": "Add.", "role": "instruction", "requires_grad": True},
                {"id": "q", "data": ["0", "1"], "role": "question"},
                {"id": "mid", "data": ["m0", "m1"], "role": "thought", "producer": "one"},
                {"id": "out", "data": ["o0", "o1"], "role": "sum", "producer": "two"},
                {"id": "score", "data": 0.5, "role": "score", "producer": "eval"},
                {"id": "why", "data": "One is wrong.", "role": "explanation", "producer": "eval"},
            ],
            "operations": [
                {
                    "id": "one",
                    **chat,
                    "messages": [{"role": "user", "content": ["sys", "q"]}],
                    "outputs": ["mid"],
                },
                {"id": "two", **chat, "messages": [{"role": "user", "content": ["mid"]}], "outputs": ["out"]},
                {
                    "id": "eval",
                    "op": "evaluate",
                    "inputs": ["out"],
                    "outputs": ["score", "why"],
                    "purpose": "exact match",
                    "scores": [1, 0],
                    "explanations": ["", "It should be 1."],
                    "succeeded": [True, False],
                    "reduction": "mean",
                },
            ],
        }
    )
    model = scripted(always("x"))
    await go_back(model, graph, ("score", None), policy={**CONTEXT, "batch": batch})
    (far,) = about(model, "m1")
    assert context(far, "result") == ["o1"]
    assert context(far, "feedback") == ["It should be 1."]
    assert 'By an evaluation of "exact match" with the score 0, of "sum"' in section(far)


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
async def test_samples_are_those_of_the_root_behind_slices_and_concatenations(
    scripted, go_back, halves, batch, always
):
    """The second item of the second part is the fifth of the whole."""
    parts = halves((2, None, 2))
    graph = Graph.model_validate(
        {
            "variables": [
                *(one.model_dump(mode="json") for one in parts.variables),
                {
                    "id": "part",
                    "data": ["answer 1.0", "answer 2.0", "answer 2.1"],
                    "role": "r",
                    "producer": "cut",
                },
                {"id": "end", "data": ["end 2", "end 3", "end 4"], "role": "report", "producer": "last"},
            ],
            "operations": [
                *(one.model_dump(mode="json") for one in parts.operations),
                {"id": "cut", "op": "slice", "inputs": ["all"], "outputs": ["part"], "start": 2, "stop": 5},
                {
                    "id": "last",
                    "op": "chat_completion",
                    "endpoint": "openai",
                    "model": "m",
                    "messages": [{"role": "user", "content": ["part"]}],
                    "outputs": ["end"],
                },
            ],
        }
    )
    model = scripted(always("x"))
    policy = {**CONTEXT, "batch": batch}
    answer = await go_back(model, graph, ("end", ["of 2", "of 3", "of 4"]), policy=policy)
    assert answer.status == "completed"
    seen = [(context(body, "result"), context(body, "feedback")) for body in model.bodies if section(body)]
    expected = (
        [(["end 2"], ["of 2"]), (["end 3"], ["of 3"]), (["end 4"], ["of 4"])]
        if batch == "per_sample"
        else [(["end 2"], ["of 2"]), (["end 3", "end 4"], ["of 3", "of 4"])]
    )
    assert sorted(seen) == expected
    (one,) = (body for body in about(model, "answer 2.1") if section(body))
    assert "end 4" in context(one, "result")


async def test_two_items_of_feedback_with_one_id_are_no_trouble(scripted, go_back, graph_of):
    """Ids of feedback are the sender's, and a sender may give one twice: each shows its own words, or is refused."""
    graph = graph_of(
        {"sys": wanted("s"), "a": "A", "b": "B", "q": ["0", "1"], "end": ["e0", "e1"]},
        ("one", "sys", "a"),
        ("two", "a", "b"),
        ("three", "b q", "end"),
    )
    items = [
        {"variable": "b", "text": "of b", "id": "mine"},
        {"variable": "end", "text": "of the end", "id": "mine"},
    ]
    model = scripted("x")
    answer = await go_back(model, graph, *items, policy=CONTEXT)
    assert answer.status == "completed"
    (far,) = about(model, "A")
    assert sorted(context(far, "feedback")) == ["of b", "of the end", "of the end"]


async def test_an_id_may_not_be_the_name_of_another_items_place(scripted, go_back, graph_of):
    """Whoever calls the first item `feedback/1` does not speak for the second."""
    graph = graph_of(
        {"sys": wanted("s"), "a": "A", "b": "B", "c": "C"},
        ("one", "sys", "a"),
        ("two", "a", "b"),
        ("three", "a", "c"),
    )
    model = scripted("x")
    items = [{"variable": "b", "text": "of b", "id": "feedback/1"}, {"variable": "c", "text": "of c"}]
    await go_back(model, graph, *items, policy=CONTEXT)
    (far,) = about(model, "A")
    assert sorted(context(far, "feedback")) == ["of b", "of c"]


# ---- the budget


@pytest.mark.parametrize("tokens", [100, 300, 1000])
@pytest.mark.parametrize("count", [1, 3, 60])
async def test_the_context_keeps_to_its_tokens(scripted, go_back, graph_of, tokens, count):
    """Its texts are cut in their middle and marked; what has no room at all is counted."""
    graph = graph_of(
        {"sys": wanted("s"), "m": "M", "q": ["q"] * count, "end": ["word " * 400] * count},
        ("one", "sys", "m"),
        ("two", "m q", "end"),
    )
    model = scripted("x")
    policy = {**CONTEXT, "context_tokens": tokens}
    await go_back(model, graph, ("end", ["bad " * 400] * count), policy=policy)
    (far,) = about(model, "M")
    texts = context(far, "result") + context(far, "feedback")
    assert sum(map(estimated, texts)) <= 1.1 * tokens
    assert len(texts) == 2 * count or f"{count - len(texts) // 2} more are left out." in section(far)
    assert all("characters left out" in text for text in texts) == (tokens < 400 * 2 or count > 1)


async def test_short_texts_stay_whole_beside_long_ones(scripted, go_back, chain):
    """What was said is worth more than the length of what it was said of."""
    graph = Graph.model_validate(
        {
            **chain.model_dump(mode="json"),
            "variables": [
                {**one.model_dump(mode="json"), **({"data": "word " * 4000} if one.id == "end" else {})}
                for one in chain.variables
            ],
        }
    )
    model = scripted("x")
    await go_back(model, graph, ("end", "Too gloomy."), policy={**CONTEXT, "context_tokens": 200})
    far = model.bodies[-1]
    assert context(far, "feedback") == ["Too gloomy."]
    (result,) = context(far, "result")
    assert result.startswith("word ")
    assert result.endswith("word ")
    assert "characters left out" in result


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
async def test_the_variable_under_study_is_never_cut(scripted, go_back, graph_of, always, batch):
    """However little is left beside it."""
    text = "".join(f"{at} " for at in range(4000))
    graph = graph_of(
        {"sys": wanted(text), "q": BATCH, "mid": BATCH, "end": ["word " * 2000] * 3},
        ("one", "sys q", "mid"),
        ("two", "mid", "end"),
    )
    model = scripted(always("x"))
    policy = {**CONTEXT, "context_tokens": 500, "prompt_tokens": 1000, "batch": batch}
    await go_back(model, graph, ("end", "bad " * 2000), policy=policy)
    asked = [body["messages"][-1]["content"] for body in model.bodies if "role of sys" in str(body)]
    assert asked
    for prompt in asked:
        assert prompt.rindex(text) > prompt.rindex('kind="variable">')
