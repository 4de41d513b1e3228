"""Gradients that start at an evaluation: from its explanation, without a call; and through a judge that is trained."""

import pytest

from backtalk.wire.errors import Code, Unavailable
from backtalk.wire.graph import Graph
from backward_worker.ask import ModelAsker
from backward_worker.backward import backward
from backward_worker.gradient import EMPTY, UNSAID, TextGradient
from backward_worker.inquiry import Desk
from backward_worker.rules import rules
from backward_worker.step import Contribution

UNTOLD = Contribution(UNSAID, feedback=("f",))


def said(text, sample=None):
    return Contribution(TextGradient(text, "copied") if text else EMPTY, sample=sample, feedback=("f",))


def chat(id, reads, writes):
    return {
        "id": id,
        "op": "chat_completion",
        "endpoint": "openai",
        "model": "m",
        "messages": [{"role": "user", "content": reads.split()}],
        "outputs": [writes],
    }


def evaluation(scores, explanations, succeeded, **more):
    """Return an evaluation of `out`, a judge's where it is told which mode that is in."""
    op, inputs = ("judge", ["out", "reply"]) if "eval_mode" in more else ("evaluate", ["out"])
    return {
        "id": "eval",
        "op": op,
        "inputs": inputs,
        "outputs": ["score", "why"],
        "purpose": "exact match",
        "scores": scores,
        "explanations": explanations,
        "succeeded": succeeded,
        **more,
    }


def variable(id, data, producer=None):
    return {"id": id, "data": data, "role": f"role of {id}", "producer": producer}


def tape(out, score, operation, *more, reply="fine"):
    """Return a call that gave `out`, a judge that gave `reply`, the evaluation, and what was added behind it."""
    judged = "eval_mode" in operation
    entries = [
        variable("prompt", "Answer."),
        variable("question", [f"q{at}" for at in range(len(out))] if isinstance(out, list) else "q"),
        variable("out", out, "answer"),
        chat("answer", "prompt question", "out"),
        *((variable("criteria", "Judge."), variable("reply", reply, "ask")) if judged else ()),
        *((chat("ask", "criteria out", "reply"),) if judged else ()),
        variable("score", score, "eval"),
        variable("why", "in all", "eval"),
        operation,
        *more,
    ]
    return Graph.model_validate(
        {
            "variables": [entry for entry in entries if "op" not in entry],
            "operations": [entry for entry in entries if "op" in entry],
        }
    )


ONE = tape("5", 0.0, evaluation([0.0], ["It should be 4."], [False]))
THREE = evaluation([1, 0, 0.5], ["", "No.", "Nearly."], [True, False, False], reduction="mean")


async def run(graph, seeds, wanted, model):
    return await backward(graph, seeds, wanted.split(), rules(Desk(ModelAsker(model, None, None, {}))))


async def heard(graph, seeds, scripted):
    """Return what the prediction hears, by sample; no model may be asked."""
    model = scripted()
    result = await run(graph, seeds, "out", model)
    assert (model.bodies, result.failures) == ([], ())
    return [(one.sample, one.gradient.text, one.gradient.how) for one in result.contributions["out"]]


@pytest.mark.parametrize("id", ["score", "why"])
async def test_a_gradient_starts_from_the_explanation(scripted, id):
    """Word for word, whichever output the feedback without words was given on, and at no cost."""
    assert await heard(ONE, {id: [UNTOLD]}, scripted) == [(None, "It should be 4.", "copied")]


async def test_what_succeeded_has_nothing_to_criticise(scripted):
    """Whatever else was said, the sample hears nothing."""
    graph = tape("4", 1.0, evaluation([1.0], ["Exactly."], [True]))
    seeds = {"score": [UNTOLD], "why": [said("Too plain.")]}
    assert await heard(graph, seeds, scripted) == [(None, "", "empty")]


@pytest.mark.parametrize("id", ["score", "why"])
async def test_feedback_that_criticises_nothing_starts_nothing(scripted, id):
    """An empty text is not a null: also an evaluation that failed has then nothing to say."""
    assert await heard(ONE, {id: [said("")]}, scripted) == [(None, "", "empty")]


async def test_feedback_in_words_follows_the_explanation(scripted):
    """Each text with what it was said of, and what was said twice is said once."""
    seeds = {"score": [said("Be exact."), said("")], "why": [UNTOLD, said("Too harsh."), said("Too harsh.")]}
    ((_, text, how),) = await heard(ONE, seeds, scripted)
    assert how == "copied"
    assert text.split("\n") == [
        "It should be 4.",
        'Said of "role of score": Be exact.',
        'Said of "role of why": Too harsh.',
    ]


async def test_feedback_stands_alone_where_nothing_was_explained(scripted):
    """There is no line without words."""
    graph = tape("5", 0, evaluation([0], [" \n"], [False]))
    assert await heard(graph, {"score": [said("Be exact.")]}, scripted) == [
        (None, 'Said of "role of score": Be exact.', "copied")
    ]


async def test_a_score_speaks_where_nothing_else_does(scripted):
    """With neither an explanation nor words, the score and what was measured are told, on one line."""
    graph = tape("5", 0.25, evaluation([0.25], [""], [False], purpose="exact\nmatch"))
    assert await heard(graph, {"score": [UNTOLD]}, scripted) == [
        (None, 'The score is 0.25; what was measured: "exact match".', "copied")
    ]


@pytest.mark.parametrize("id", ["score", "why"])
@pytest.mark.parametrize("reduction", ["mean", None])
async def test_each_sample_of_a_batch_hears_of_itself(scripted, id, reduction):
    """One success of three: the others hear their own explanation, also where there is one score for all."""
    operation = {**THREE, "reduction": reduction}
    graph = tape(["a", "b", "c"], 0.5 if reduction else [1, 0, 0.5], operation)
    assert await heard(graph, {id: [UNTOLD]}, scripted) == [
        (0, "", "empty"),
        (1, "No.", "copied"),
        (2, "Nearly.", "copied"),
    ]


async def test_words_for_one_item_of_the_scores_reach_that_item(scripted):
    """Where the scores are a batch, feedback may be one as well; who is not criticised hears nothing."""
    graph = tape(["a", "b", "c"], [1, 0, 0.5], {**THREE, "reduction": None})
    seeds = {"score": [said("", 0), said("Worse.", 1), said("", 2)]}
    assert await heard(graph, seeds, scripted) == [
        (0, "", "empty"),
        (1, 'No.\nSaid of "role of score": Worse.', "copied"),
        (2, "", "empty"),
    ]


@pytest.mark.parametrize("item", [0, 1, 2])
async def test_what_a_batch_said_of_the_one_score_is_said_of_every_sample(scripted, item):
    """A reader's items are not the evaluation's: the score is one value, and its reader may have more items."""
    longer = variable("many", ["m"] * 4)
    sums = {"id": "sum", "op": "sum", "inputs": ["why", "many"], "outputs": ["lines"]}
    graph = tape(["a", "b", "c"], 0.5, THREE, longer, variable("lines", ["l"] * 4, "sum"), sums)
    found = await heard(graph, {"lines": [said("Shorter.", item)]}, scripted)
    assert [sample for sample, text, _ in found if "Shorter." in text] == [1, 2]
    found = await heard(graph, {"lines": [said("Shorter.", 3)]}, scripted)
    assert [sample for sample, text, _ in found if "Shorter." in text] == [1, 2]


async def test_what_failed_to_be_said_of_the_one_score_is_missing_for_every_sample(scripted):
    """The last item of a reader with more items than the evaluation fails: all that was to hear of it says so."""
    many = [f"m{at}" for at in range(4)]
    reader = (variable("many", many), variable("read", many, "reader"), chat("reader", "why many", "read"))
    graph = tape(["a", "b", "c"], 0.5, THREE, *reader)
    down = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
    model = scripted(lambda body: down if "m3" in body["messages"][-1]["content"] else "Shorter.")
    result = await run(graph, {"read": [said("Too long.")]}, "out", model)
    assert [(failed.variable, failed.sample) for failed in result.failures] == [("why", 3)]
    assert [(one.sample, one.incomplete) for one in result.contributions["out"]] == [
        (0, True),
        (1, True),
        (2, True),
    ]


@pytest.mark.parametrize("reduction", ["mean", None])
@pytest.mark.parametrize("id", ["score", "why"])
async def test_an_item_that_was_not_scored_is_a_failure(scripted, id, reduction):
    """It is never text, and what depends on it is told to be incomplete."""
    operation = evaluation([0, None], ["No.", "Not scored."], [False, False], reduction=reduction)
    graph = tape(["a", "b"], 0.0 if reduction else [0, None], operation)
    result = await run(graph, {id: [UNTOLD]}, "out prompt", scripted("Be exact."))
    (failed,) = result.failures
    assert (failed.variable, failed.operation, failed.sample) == ("out", "eval", 1)
    assert failed.error.code == Code.INVALID_MESSAGE
    assert "'eval' did not score item 1" in failed.error.message
    assert [(one.sample, one.gradient.text) for one in result.contributions["out"]] == [(0, "No.")]
    assert [(one.sample, one.incomplete) for one in result.contributions["prompt"]] == [(0, False)]


async def test_what_lies_behind_an_item_that_was_not_scored_is_incomplete(scripted):
    """The prediction is heard of by another reader as well; its prompt's gradient says that something is missing."""
    operation = evaluation([0, None], ["No.", ""], [False, False], reduction="mean")
    graph = tape(["a", "b"], 0.0, operation)
    seeds = {"score": [UNTOLD], "out": [said("Shorter.")]}
    result = await run(graph, seeds, "prompt", scripted("Be brief."))
    assert [(one.sample, one.incomplete) for one in result.contributions["prompt"]] == [(0, False), (1, True)]


async def test_a_single_prediction_that_was_not_scored_is_a_failure_too(scripted):
    """The message names the prediction, there is no item."""
    graph = tape("a", 0, evaluation([None], [""], [False]))
    result = await run(graph, {"score": [UNTOLD]}, "out", scripted())
    (failed,) = result.failures
    assert "did not score the prediction" in failed.error.message
    assert failed.sample is None


@pytest.mark.parametrize("score", [0.0, [0, None]], ids=str)
async def test_an_item_whose_prediction_failed_has_nothing_to_criticise(scripted, score):
    """It could not be scored, and that is no failure of the evaluation."""
    reduction = None if isinstance(score, list) else "mean"
    operation = evaluation([0, None], ["No.", ""], [False, False], reduction=reduction)
    graph = tape(["a", None], score, operation)
    assert await heard(graph, {"why": [UNTOLD]}, scripted) == [(0, "No.", "copied"), (1, "", "empty")]


async def test_what_was_explained_names_what_it_was_said_of_further_on(scripted):
    """Through a step before the prediction, the explanation is told to be about the prediction."""
    add = {"id": "add", "op": "add", "inputs": ["prompt", "prompt"], "outputs": ["out"]}
    graph = tape("5", 0.0, evaluation([0.0], ["No."], [False]))
    steps = [add if one.id == "answer" else one.model_dump() for one in graph.operations]
    values = [
        {**one.model_dump(), "producer": "add"} if one.id == "out" else one.model_dump()
        for one in graph.variables
    ]
    graph = Graph.model_validate({"variables": values, "operations": steps})
    result = await run(graph, {"why": [UNTOLD]}, "prompt", scripted())
    told = {one.gradient.text for one in result.contributions["prompt"]}
    assert told == {'Said of "role of out", of which this text is a part: No.'}


# ---- judges


async def test_a_judge_passes_its_explanation_to_the_prediction_alone(scripted):
    """Its own reply hears nothing, and neither do its criteria."""
    model = scripted("Be exact.")
    graph = tape("5", 0, evaluation([0], ["It is cold."], [False], eval_mode=True))
    result = await run(graph, {"why": [UNTOLD]}, "out prompt reply criteria", model)
    texts = {
        id: [one.gradient.text for one in found if one.operation == "eval"]
        for id, found in result.contributions.items()
    }
    assert texts == {"out": ["It is cold."], "prompt": [], "reply": [], "criteria": []}
    assert [one.gradient.text for one in result.contributions["prompt"]] == ["Be exact."]
    assert result.contributions["criteria"] == ()
    assert len(model.bodies) == 1


@pytest.mark.parametrize("succeeded", [True, False])
async def test_a_judge_that_is_trained_passes_what_it_was_told_to_its_reply(scripted, succeeded):
    """Whatever it thought of the prediction; from there it reaches the criteria, as of any call."""
    operation = evaluation([0], ["It is cold."], [succeeded], eval_mode=False)
    graph = tape("5", 0, operation)
    model = scripted("Judge kindly.")
    result = await run(graph, {"why": [said("People found it kind.")]}, "out reply criteria", model)
    (reply,) = result.contributions["reply"]
    assert (
        reply.gradient.text == 'Said of "role of why", which was read out of this text: People found it kind.'
    )
    assert reply.input == "inputs/1"
    (criteria,) = result.contributions["criteria"]
    assert (criteria.gradient.text, criteria.operation) == ("Judge kindly.", "ask")
    assert "It is cold." not in model.prompts[0]
    # the prediction hears of it only as something that the judge's call read
    assert [one.operation for one in result.contributions["out"]] == ["ask"]


async def test_an_item_that_a_judge_in_training_did_not_score_is_no_failure(scripted):
    """What was wrong with that judgement is just what is said."""
    operation = evaluation([0, None], ["No.", ""], [False, False], eval_mode=False)
    graph = tape(["a", "b"], [0, None], operation, reply=["cold", "¯"])
    result = await run(graph, {"score": [said("", 0), said("Say a word.", 1)]}, "reply", scripted())
    assert result.failures == ()
    assert [(one.sample, "Say a word." in one.gradient.text) for one in result.contributions["reply"]] == [
        (0, False),
        (1, True),
    ]
