"""Where a pass starts: scores at the gate, and the samples of a batch that a message leaves to others."""

from itertools import pairwise

import pytest

from backtalk.wire.errors import Code, Refused
from backtalk.wire.graph import Graph
from backtalk.wire.policy import Policy

GATE = {"gate": 0.8}
BATCH = ["0", "1", "2", "3"]


def wanted(data):
    return {"data": data, "requires_grad": True}


def item(variable, text, **more):
    return {"variable": variable, "text": text, **more}


def told(answer, id):
    return [(one.sample, one.how) for one in answer.gradients[id]]


@pytest.fixture
def batched(graph_of):
    """Return a call for four questions; what it says, another call reads."""
    return graph_of(
        {"sys": wanted("s"), "q": wanted(BATCH), "mid": BATCH, "out": BATCH},
        ("one", "sys q", "mid"),
        ("two", "sys mid", "out"),
    )


@pytest.fixture
def evaluated():
    """Return the function that makes a call of four samples and the evaluation that found two of them wrong."""

    def build(**more):
        variables = [
            {"id": "sys", "data": "Add.", "role": "instruction", "requires_grad": True},
            {"id": "q", "data": BATCH, "role": "question"},
            {"id": "out", "data": BATCH, "role": "sum", "producer": "chat"},
            {
                "id": "score",
                "data": 0.5 if more else [1, 0, 0.5, 1],
                "role": "score",
                "producer": "eval",
            },
            {"id": "why", "data": "Some are wrong.", "role": "explanation", "producer": "eval"},
        ]
        chat = {
            "id": "chat",
            "op": "chat_completion",
            "endpoint": "openai",
            "model": "m",
            "messages": [{"role": "user", "content": ["sys", "q"]}],
            "outputs": ["out"],
        }
        evaluation = {
            "id": "eval",
            "op": "evaluate",
            "inputs": ["out"],
            "outputs": ["score", "why"],
            "purpose": "exact match",
            "scores": [1, 0, 0.5, 1],
            "explanations": ["", "Quite wrong.", "Half wrong.", ""],
            "succeeded": [True, False, False, True],
            **more,
        }
        return Graph.model_validate({"variables": variables, "operations": [chat, evaluation]})

    return build


# ---- the gate


@pytest.mark.parametrize(
    ("score", "asked"), [(0.79, True), (0.8, False), (1, False), (0, True), (-1, True), (None, True)]
)
async def test_at_or_above_the_gate_nothing_is_asked(scripted, go_back, graph_of, score, asked):
    """It is recorded as the empty gradient, with the feedback behind it."""
    graph = graph_of({"sys": wanted("s"), "out": "o"}, ("op", "sys", "out"))
    model = scripted("x")
    answer = await go_back(model, graph, item("out", "Nearly.", score=score), policy=GATE)
    (entry,) = answer.gradients["sys"]
    assert (entry.how, entry.feedback) == ("model" if asked else "empty", ("feedback/0",))
    assert len(model.bodies) == answer.usage["calls"] == asked
    assert answer.status == "completed"


async def test_without_a_gate_a_score_changes_nothing(scripted, go_back, graph_of):
    """The best score is criticised as well as the worst."""
    graph = graph_of({"sys": wanted("s"), "out": "o"}, ("op", "sys", "out"))
    answer = await go_back(scripted("x"), graph, item("out", "Nearly.", score=1))
    assert told(answer, "sys") == [(None, "model")]


async def test_a_gate_of_the_worker_holds_unless_the_message_takes_it_away(scripted, go_back, graph_of):
    """By null."""
    graph = graph_of({"sys": wanted("s"), "out": "o"}, ("op", "sys", "out"))
    said, own = item("out", "Nearly.", score=1), Policy(gate=0.8)
    held = await go_back(scripted("x"), graph, said, defaults=own)
    free = await go_back(scripted("x"), graph, said, defaults=own, policy={"gate": None})
    assert (told(held, "sys"), told(free, "sys")) == ([(None, "empty")], [(None, "model")])


@pytest.mark.parametrize("text", ["Nearly.", ["a", "b", "c", "d"]], ids=str)
async def test_scores_are_aligned_with_the_samples(scripted, go_back, batched, text):
    """Of four samples two are good enough; one without a score is not."""
    said = item("out", text, score=[0.9, 0.1, None, 0.8])
    answer = await go_back(scripted("x"), batched, said, wrt=["q"], policy=GATE)
    assert told(answer, "q") == [(0, "empty"), (1, "model"), (2, "model"), (3, "empty")]
    assert answer.usage["calls"] == 4


async def test_one_score_is_that_of_all_samples(scripted, go_back, batched):
    """Whatever is said of each."""
    model = scripted("x")
    answer = await go_back(model, batched, item("out", ["a", "b", "c", "d"], score=0.9), policy=GATE)
    assert {how for _, how in told(answer, "q")} == {"empty"}
    assert model.bodies == []


async def test_the_gate_is_for_an_item_and_not_for_its_variable(scripted, go_back, graph_of):
    """Who scored low is heard beside who scored high, and the silent one is counted."""
    graph = graph_of({"sys": wanted("s"), "out": "o"}, ("op", "sys", "out"))
    model = scripted("x")
    items = [item("out", "Fine.", score=1), item("out", "Too long.", score=0)]
    answer = await go_back(model, graph, *items, policy=GATE)
    assert "Too long." in model.prompts[0]
    assert ">\nFine.\n<" not in model.prompts[0]
    assert "1 more had nothing to criticise" in model.prompts[0]
    assert answer.gradients["sys"][0].feedback == ("feedback/0", "feedback/1")


async def test_thirty_three_of_thirty_three_cost_nothing(scripted, go_back, graph_of):
    """In either way of dealing with a batch."""
    items = [str(at) for at in range(33)]
    graph = graph_of({"sys": wanted("s"), "q": items, "out": items}, ("op", "sys q", "out"))
    model = scripted("never asked")
    for batch, count in (("per_sample", 33), ("digest", 1)):
        said = item("out", "Right.", score=[1] * 33)
        answer = await go_back(model, graph, said, policy={**GATE, "batch": batch})
        assert [one.how for one in answer.gradients["sys"]] == ["empty"] * count
    assert model.bodies == []


async def test_what_passed_the_gate_is_counted_in_a_digest(scripted, go_back, graph_of):
    """Among those with nothing to criticise."""
    graph = graph_of({"sys": wanted("s"), "q": BATCH, "out": BATCH}, ("op", "sys q", "out"))
    model = scripted("x")
    said = item("out", "Hm.", score=[0, 1, 1, 1])
    await go_back(model, graph, said, policy={**GATE, "batch": "digest"})
    assert "1 shown here, 3 had nothing to criticise" in model.prompts[0]


@pytest.mark.parametrize("more", [{}, {"reduction": "mean"}], ids=["one each", "one for all"])
async def test_scores_beside_an_evaluation_are_those_of_its_samples(scripted, go_back, evaluated, more):
    """Also where it wrote one score for all; it still explains itself."""
    said = item("score", None, score=[1, 0, 0.9, 1])
    answer = await go_back(scripted("x"), evaluated(**more), said, policy=GATE)
    assert told(answer, "sys") == [(0, "empty"), (1, "model"), (2, "empty"), (3, "empty")]


async def test_at_the_gate_feedback_on_the_wanted_variable_itself_is_empty(scripted, go_back, graph_of):
    """Its own words are not repeated."""
    answer = await go_back(
        scripted(), graph_of({"a": "x"}), item("a", "Fine.", score=1), wrt=["a"], policy=GATE
    )
    assert [(one.text, one.how) for one in answer.gradients["a"]] == [("", "empty")]


@pytest.mark.parametrize("score", [[1], [1, 1, 1], [1] * 5], ids=len)
async def test_a_list_of_scores_has_the_length_of_the_batch(scripted, go_back, batched, score):
    """Both lengths are told."""
    with pytest.raises(Refused) as caught:
        await go_back(scripted("x"), batched, item("out", "x", score=score), policy=GATE)
    assert caught.value.error.message.startswith("feedback/0/score: ")
    assert "a batch of 4" in caught.value.error.message


async def test_a_single_value_has_a_single_score(scripted, go_back, graph_of):
    """A list of one is none."""
    with pytest.raises(Refused, match="feedback/0/score"):
        await go_back(scripted("x"), graph_of({"a": "x"}), item("a", "x", score=[1]))


# ---- samples


@pytest.mark.parametrize("text", ["Bad.", ["a", "b", "", "d"]], ids=str)
@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
async def test_passes_over_parts_of_a_batch_are_the_pass_over_the_whole(
    scripted, go_back, batched, always, text, calls
):
    """Entries, calls and their order, however it is cut."""
    policy = {"calls": calls}
    whole = await go_back(scripted(always("x")), batched, ("out", text), policy=policy)
    for cuts in ([0, 1, 4], [0, 2, 4], [0, 1, 2, 3, 4]):
        found = {"sys": [], "q": []}
        calls_made = 0
        for samples in pairwise(cuts):
            part = await go_back(
                scripted(always("x")), batched, ("out", text), samples=list(samples), policy=policy
            )
            assert part.status == "completed"
            calls_made += part.usage["calls"]
            for id, entries in part.gradients.items():
                assert {one.sample for one in entries} <= set(range(*samples))
                assert not any(one.incomplete for one in entries)
                found[id] += entries
        key = ["one", "two"].index
        for id, entries in found.items():
            ordered = sorted(entries, key=lambda one: (key(one.operation), one.input, one.sample))
            assert tuple(ordered) == whole.gradients[id]
        assert calls_made == whole.usage["calls"]


@pytest.mark.parametrize("more", [{}, {"reduction": "mean"}], ids=["one each", "one for all"])
async def test_samples_of_an_evaluation_are_those_it_measured(scripted, go_back, evaluated, more):
    """Also where its score is one for all."""
    parts = []
    for samples in ([0, 2], [2, 4]):
        answer = await go_back(scripted("x"), evaluated(**more), ("score", None), samples=samples)
        parts += answer.gradients["sys"]
    whole = await go_back(scripted("x"), evaluated(**more), ("score", None))
    assert tuple(parts) == whole.gradients["sys"]
    assert [(one.sample, one.how) for one in parts] == [
        (0, "empty"),
        (1, "model"),
        (2, "model"),
        (3, "empty"),
    ]


async def test_scores_and_texts_are_those_of_the_whole_batch(scripted, go_back, batched):
    """A part is told by its places, not by lists of its own."""
    model = scripted("x")
    said = item("out", ["a", "b", "c", "d"], score=[1, 0, 1, 0])
    answer = await go_back(model, batched, said, samples=[1, 3], wrt=["mid"], policy=GATE)
    assert told(answer, "mid") == [(1, "model"), (2, "empty")]
    assert ">\nb\n<" in model.prompts[0]


@pytest.mark.parametrize("policy", [{"batch": "digest"}, None])
async def test_samples_are_refused_with_digest(scripted, go_back, batched, policy):
    """Whoever asked for it: a part of a batch is not the batch."""
    own = None if policy else Policy(batch="digest")
    model = scripted("x")
    with pytest.raises(Refused) as caught:
        await go_back(model, batched, ("out", "x"), samples=[0, 2], policy=policy or {}, defaults=own)
    assert (caught.value.error.code, caught.value.error.details["path"]) == (Code.INVALID_MESSAGE, "samples")
    assert model.bodies == []


@pytest.mark.parametrize("samples", [[0, 5], [4, 5], [3, 100]], ids=str)
async def test_samples_beyond_the_batch_are_refused(scripted, go_back, batched, samples):
    """With its length."""
    with pytest.raises(Refused, match=r"samples: ends at .* has 4 items"):
        await go_back(scripted("x"), batched, ("out", "x"), samples=samples)


async def test_samples_of_a_single_value_are_refused(scripted, go_back, graph_of, batched):
    """Also where other feedback is on a batch."""
    with pytest.raises(Refused, match=r"samples: .*is a single value"):
        await go_back(scripted("x"), graph_of({"a": "x"}), ("a", "y"), samples=[0, 1])
    with pytest.raises(Refused, match=r"samples: .*'sys' is a single value"):
        await go_back(scripted("x"), batched, ("out", "x"), ("sys", "y"), samples=[0, 1])
