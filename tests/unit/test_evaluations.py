"""Evaluations on the wire: what a gradient passes through, what is kept of each sample, and in which words."""

import json
from pathlib import Path

import pytest

from backtalk.wire.codec import decode, validate
from backtalk.wire.errors import Refused
from backtalk.wire.evaluations import Evaluate, Judge, explains_itself
from backtalk.wire.graph import Graph
from backtalk.wire.position import Position

GOLDEN = decode((Path(__file__).parents[1] / "data" / "graph.v1.evaluations.json").read_bytes(), Graph)
FIELDS = {
    "id": "op",
    "outputs": ["s", "e"],
    "purpose": "kindness",
    "scores": [1],
    "explanations": [""],
    "succeeded": [True],
}


def judge(**fields):
    return validate({**FIELDS, "inputs": ["p", "r"], **fields}, Judge)


def evaluate(**fields):
    return validate({**FIELDS, "inputs": ["p"], **fields}, Evaluate)


@pytest.mark.parametrize(
    ("eval_mode", "passes", "beside"),
    [(True, Position("inputs/0", None, "p"), ("r",)), (False, Position("inputs/1", None, "r"), ("p",))],
)
def test_a_gradient_passes_a_judge_on_one_side(eval_mode, passes, beside):
    """To the prediction, or to the reply of the judge that is trained; the other is read all the same."""
    operation = judge(eval_mode=eval_mode)
    assert (operation.positions(), operation.beside) == ((passes,), beside)


def test_a_judge_evaluates_unless_it_is_said_to_be_trained():
    """The default."""
    assert judge().eval_mode is True
    assert judge().positions() == judge(eval_mode=True).positions()


def test_nothing_is_read_beside_an_evaluation_or_a_call(graph_of):
    """Every other operation passes gradients wherever it reads."""
    chat = graph_of({"a": "x", "b": "y"}, ("op", "a", "b")).operations[0]
    assert evaluate().beside == chat.beside == ()


def test_only_an_evaluation_that_is_not_trained_explains_itself(graph_of):
    """A judge that is trained cannot be believed about itself, and a call says nothing of itself."""
    chat = graph_of({"a": "x", "b": "y"}, ("op", "a", "b")).operations[0]
    told = [explains_itself(one) for one in (evaluate(), judge(), judge(eval_mode=False), chat, None)]
    assert told == [True, True, False, False, False]


def test_what_is_left_out_stays_out():
    """Without targets and reduction there is no null in their place."""
    written = evaluate().model_dump(mode="json")
    assert {"targets", "reduction"}.isdisjoint(written)
    assert written["scores"] == [1]
    assert evaluate(targets=["x"], reduction="mean").model_dump()["targets"] == ("x",)


@pytest.mark.parametrize("scores", [[True], [1], [1.0], [0.5], [None]], ids=repr)
def test_a_score_keeps_its_kind(scores):
    """True is not 1, and 1 is not 1.0."""
    again = json.loads(evaluate(scores=scores).model_dump_json())["scores"]
    assert repr(again) == repr(scores)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"scores": ["1"]}, "scores/0"),
        ({"scores": [float("inf")]}, "scores/0"),
        ({"scores": []}, "scores"),
        ({"explanations": [None]}, "explanations/0"),
        ({"succeeded": [1]}, "succeeded/0"),
        ({"targets": [["x"]]}, "targets/0"),
        ({"outputs": ["s"]}, "outputs"),
        ({"outputs": ["s", "e", "x"]}, "outputs"),
        ({"inputs": ["p", "r"]}, "inputs"),
        ({"eval_mode": True}, "eval_mode"),
    ],
    ids=str,
)
def test_what_is_no_evaluation_is_refused_by_its_path(fields, path):
    """A text is no score, and only a judge has a mode."""
    with pytest.raises(Refused) as caught:
        evaluate(**fields)
    assert caught.value.error.details["path"] == path


def test_the_scan_knows_the_batch_and_what_passes_a_gradient():
    """Of the golden tape: every operation has three samples, and the score of a reduction is one number."""
    assert set(GOLDEN.index.batches) == {3}
    at = GOLDEN.index.operations
    assert [read.variable for read in GOLDEN.index.positions[at["kindness"]]] == ["letters"]
    assert [read.variable for read in GOLDEN.index.positions[at["training"]]] == ["judgements"]
    assert GOLDEN.index.variables["score"].data == 0.5


@pytest.mark.parametrize(("eval_mode", "wanted"), [(True, False), (False, True)])
def test_what_stands_beside_lends_no_requirement_of_gradients(graph_of, eval_mode, wanted):
    """The outputs require a gradient when what it passes to does."""
    fields = {"op": "judge", "inputs": ["p", "r"], "eval_mode": eval_mode}
    variables = [
        {"id": "p", "data": "x", "role": "r"},
        {"id": "r", "data": "x", "role": "r", "requires_grad": True},
        {"id": "s", "data": 1, "role": "r", "producer": "op"},
        {"id": "e", "data": "", "role": "r", "producer": "op"},
    ]
    graph = Graph.model_validate({"variables": variables, "operations": [{**FIELDS, **fields}]})
    assert graph.requires_grad("s") is graph.requires_grad("e") is wanted


@pytest.mark.parametrize("eval_mode", [True, False])
@pytest.mark.parametrize("reply", ["kind", ["kind", "cold"]], ids=str)
def test_a_single_reply_may_judge_a_batch(eval_mode, reply):
    """A scalar serves every item, in both modes."""
    variables = [
        {"id": "p", "data": ["x", "y"], "role": "r"},
        {"id": "r", "data": reply, "role": "r"},
        {"id": "s", "data": [1, None], "role": "r", "producer": "op"},
        {"id": "e", "data": "", "role": "r", "producer": "op"},
    ]
    pairs = {"scores": [1, None], "explanations": ["", ""], "succeeded": [True, False]}
    operation = {**FIELDS, **pairs, "op": "judge", "inputs": ["p", "r"], "eval_mode": eval_mode}
    graph = Graph.model_validate({"variables": variables, "operations": [operation]})
    assert graph.index.batches == (2,)
