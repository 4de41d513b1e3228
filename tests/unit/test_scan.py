"""The one scan that proves a tape consistent, contradiction by contradiction."""

import copy

import pytest
from pydantic import ValidationError

from backtalk.wire.codec import decode
from backtalk.wire.errors import Code, Refused
from backtalk.wire.graph import Graph


def call(id, reads, writes, **more):
    return {
        "id": id,
        "op": "chat_completion",
        "endpoint": "openai",
        "model": "m",
        "messages": [{"role": "user", "content": reads}],
        "outputs": writes,
        **more,
    }


def value(id, producer=None, data="text"):
    return {"id": id, "data": data, "role": "r", "producer": producer}


def tool(description):
    return {"type": "function", "function": {"name": "f", "description": description}}


def evaluate(id, reads, writes, count=1, **more):
    """Return an evaluation of so many samples, each of which failed."""
    return {
        "id": id,
        "op": "evaluate",
        "inputs": reads,
        "outputs": writes,
        "purpose": "exact match",
        "scores": [0.0] * count,
        "explanations": ["wrong"] * count,
        "succeeded": [False] * count,
        **more,
    }


def judge(id, reads, writes, count=1, **more):
    return evaluate(id, reads, writes, count, op="judge", **more)


def function(id, reads, writes, **more):
    return {
        "id": id,
        "op": "function",
        "inputs": reads,
        "outputs": writes,
        "name": "parse",
        "description": "Reads a number.",
        "parameters": [f"p{at}" for at in range(len(reads))],
        "transmit": "verbatim",
        **more,
    }


def scored(score=0.0, explanation="wrong"):
    """Return what the evaluation `1` wrote: `s` and `e`."""
    return [value("s", "1", score), value("e", "1", explanation)]


PREDICTIONS = value("p", None, ["x", "y"])

# name: variables, operations, the path, and what the message must say
CONTRADICTIONS = {
    "a variable's id stands twice": (
        [value("a"), value("b"), value("a")],
        [],
        "variables/2/id",
        "'a' stands twice",
    ),
    "an operation's id stands twice": (
        [value("a"), value("b", "1"), value("c", "1")],
        [call("1", ["a"], ["b"]), call("1", ["a"], ["c"])],
        "operations/1/id",
        "'1' stands twice",
    ),
    "a message reads what is not there": (
        [value("a"), value("b", "1")],
        [call("1", ["a", "ghost"], ["b"])],
        "operations/0/messages/0/content/1",
        "'ghost'",
    ),
    "an input reads what is not there": (
        [value("a"), value("b", "1")],
        [call("1", ["a"], ["b"], inputs={"x/y": "ghost"})],
        "operations/0/inputs/x~1y",
        "'ghost'",
    ),
    "a list of ids reads what is not there": (
        [value("a"), value("b", "1", ["x", "y"])],
        [call("1", ["a"], ["b"], inputs={"x": ["a", "ghost"]})],
        "operations/0/inputs/x",
        "'ghost'",
    ),
    "an output is not there": (
        [value("a")],
        [call("1", ["a"], ["ghost"])],
        "operations/0/outputs",
        "'ghost'",
    ),
    "an output is written by two operations": (
        [value("a"), value("b", "1")],
        [call("1", ["a"], ["b"]), call("2", ["a"], ["b"])],
        "operations/1/outputs",
        "already written",
    ),
    "an output stands twice in one operation": (
        [value("a"), value("b", "1")],
        [call("1", ["a"], ["b", "b"])],
        "operations/0/outputs",
        "already written",
    ),
    "an operation reads what a later one writes": (
        [value("a"), value("b", "2"), value("c", "1")],
        [call("1", ["b"], ["c"]), call("2", ["a"], ["b"])],
        "operations/0/messages/0/content/0",
        "only later",
    ),
    "two operations read each other": (
        [value("a", "1"), value("b", "2")],
        [call("1", ["b"], ["a"]), call("2", ["a"], ["b"])],
        "operations/0/messages/0/content/0",
        "cycle",
    ),
    "an operation reads what it writes": (
        [value("a", "1")],
        [call("1", ["a"], ["a"])],
        "operations/0/messages/0/content/0",
        "cycle",
    ),
    "an output names no producer": (
        [value("a"), value("b")],
        [call("1", ["a"], ["b"])],
        "operations/0/outputs",
        "names the producer None",
    ),
    "an output names another producer": (
        [value("a"), value("b", "2")],
        [call("1", ["a"], ["b"])],
        "operations/0/outputs",
        "names the producer '2'",
    ),
    "a producer does not write its variable": (
        [value("a"), value("b", "1"), value("c", "1")],
        [call("1", ["a"], ["b"])],
        "variables/2/producer",
        "does not write 'c'",
    ),
    "a part is missing": (
        [value("a"), value("b", "1")],
        [call("1", ["a", {"part": "f00"}], ["b"])],
        "operations/0/messages",
        "part 'f00'",
    ),
    "a tool reads what is not there": (
        [value("a"), value("b", "1")],
        [call("1", ["a"], ["b"], tools=[tool("text"), tool({"variable": "ghost"})])],
        "operations/0/tools/1/function/description",
        "'ghost'",
    ),
    "a template reads what is written later": (
        [value("a"), value("b", "1")],
        [
            call(
                "1",
                ["a"],
                ["b"],
                tools=[tool("d")],
                tool_templates={"force_call": {"prefix": {"variable": "b"}}},
            )
        ],
        "operations/0/tool_templates/force_call/prefix",
        "only later",
    ),
    "a tool describes itself by something else": (
        [value("a"), value("b", "1")],
        [call("1", ["a"], ["b"], tools=[tool({"data": "text"})])],
        "operations/0/tools/0/function/description",
        "names a `variable`",
    ),
    "a message is rewritten that is not there": (
        [value("a"), value("b", "1")],
        [call("1", ["a"], ["b"], injected={"mode": "inject", "messages": [{"message": 1}]})],
        "operations/0/injected/messages",
        "no message 1",
    ),
    "a block shows what no tool reads": (
        [value("a"), value("b", "1"), value("c")],
        [
            call(
                "1",
                ["a"],
                ["b"],
                tools=[tool({"variable": "a"})],
                injected={"mode": "inject", "block": ["x", {"variable": "a"}, {"variable": "c"}]},
            )
        ],
        "operations/0/injected/block",
        "'c'",
    ),
    "a block shows what is not there": (
        [value("a"), value("b", "1")],
        [call("1", ["a"], ["b"], injected={"mode": "inject", "block": [{"variable": "ghost"}]})],
        "operations/0/injected/block",
        "'ghost'",
    ),
    "a description and a message are batches of two lengths": (
        [value("a", None, ["x", "y"]), value("b", "1", ["x", "y"]), value("c", None, ["x", "y", "z"])],
        [call("1", ["a"], ["b"], tools=[tool({"variable": "c"})])],
        "operations/0",
        "tools/0/function/description has 3",
    ),
    "batches of two lengths are read": (
        [value("a", None, ["x", "y"]), value("b", None, ["x", "y", "z"]), value("c", "1", ["x", "y"])],
        [call("1", ["a", "b"], ["c"])],
        "operations/0",
        "messages/0/content/0 has 2, messages/0/content/1 has 3",
    ),
    "a batch and a list of ids differ in length": (
        [value("a", None, ["x", "y"]), value("b"), value("c", "1", ["x", "y"])],
        [call("1", ["a"], ["c"], inputs={"n": ["b", "b", "b"]})],
        "operations/0",
        "inputs/n has 3",
    ),
    "a list of ids names a batch": (
        [value("a"), value("b", None, ["x", "y"]), value("c", "1", ["x", "y"])],
        [call("1", ["a"], ["c"], inputs={"n": ["a", "b"]})],
        "operations/0/inputs/n",
        "may not name a batch",
    ),
    "the output of a batch has too few items": (
        [value("a", None, ["x", "y"]), value("b", "1", ["x"])],
        [call("1", ["a"], ["b"])],
        "operations/0/outputs",
        "has 1 items; what the operation writes there has 2",
    ),
    "the output of a batch is a scalar": (
        [value("a", None, ["x", "y"]), value("b", "1")],
        [call("1", ["a"], ["b"])],
        "operations/0/outputs",
        "has no items; what the operation writes there has 2",
    ),
    "the output of a scalar operation is a batch": (
        [value("a"), value("b", "1", ["x"])],
        [call("1", ["a"], ["b"])],
        "operations/0/outputs",
        "has 1 items; what the operation writes there has none",
    ),
    "a batch has too few scores": (
        [PREDICTIONS, *scored()],
        [evaluate("1", ["p"], ["s", "e"], 2, scores=[1], reduction="mean")],
        "operations/0/scores",
        "has 1 entries; give one for each sample, which makes 2",
    ),
    "a batch has too many explanations": (
        [PREDICTIONS, *scored()],
        [evaluate("1", ["p"], ["s", "e"], 2, explanations=["x", "y", "z"], reduction="mean")],
        "operations/0/explanations",
        "has 3 entries; give one for each sample, which makes 2",
    ),
    "nobody says whether the second item succeeded": (
        [PREDICTIONS, *scored()],
        [evaluate("1", ["p"], ["s", "e"], 2, succeeded=[True], reduction="mean")],
        "operations/0/succeeded",
        "has 1 entries",
    ),
    "a batch has too few targets": (
        [PREDICTIONS, *scored()],
        [evaluate("1", ["p"], ["s", "e"], 2, targets=["x"], reduction="mean")],
        "operations/0/targets",
        "has 1 entries",
    ),
    "a single prediction has two scores": (
        [value("p"), *scored()],
        [evaluate("1", ["p"], ["s", "e"], 2)],
        "operations/0/scores",
        "has 2 entries; give one for each sample, which makes 1",
    ),
    "an evaluation reads what is not there": (
        scored(),
        [evaluate("1", ["ghost"], ["s", "e"])],
        "operations/0/inputs/0",
        "'ghost', which is not among the variables",
    ),
    "a judge's reply is not there": (
        [value("p"), *scored()],
        [judge("1", ["p", "ghost"], ["s", "e"])],
        "operations/0/inputs/1",
        "'ghost', which is not among the variables",
    ),
    "the prediction of a judge that is trained is not there": (
        [value("r"), *scored()],
        [judge("1", ["ghost", "r"], ["s", "e"], eval_mode=False)],
        "operations/0/inputs/0",
        "'ghost', which is not among the variables",
    ),
    "a judge's reply is written later": (
        [value("p"), value("r", "2"), *scored()],
        [judge("1", ["p", "r"], ["s", "e"]), call("2", ["p"], ["r"])],
        "operations/0/inputs/1",
        "operation '2' writes only later",
    ),
    "the prediction of a judge that is trained is written later": (
        [value("p", "2"), value("r"), *scored()],
        [judge("1", ["p", "r"], ["s", "e"], eval_mode=False), call("2", ["r"], ["p"])],
        "operations/0/inputs/0",
        "operation '2' writes only later",
    ),
    "prediction and reply are batches of two lengths": (
        [PREDICTIONS, value("r", None, ["x", "y", "z"]), *scored()],
        [judge("1", ["p", "r"], ["s", "e"], 2, reduction="mean")],
        "operations/0/inputs",
        "batch lengths differ (inputs/0 has 2, inputs/1 has 3); give all lists of a batch one length",
    ),
    "a single prediction has a batch of replies": (
        [value("p"), value("r", None, ["x", "y"]), *scored()],
        [judge("1", ["p", "r"], ["s", "e"])],
        "operations/0/inputs/0",
        "is a single prediction, beside a batch of 2",
    ),
    "scores that were reduced are a list": (
        [PREDICTIONS, *scored([1, 0])],
        [evaluate("1", ["p"], ["s", "e"], 2, reduction="mean")],
        "operations/0/outputs",
        "'s' has 2 items; what the operation writes there has none",
    ),
    "scores that were not reduced are one": (
        [PREDICTIONS, *scored(0.5)],
        [evaluate("1", ["p"], ["s", "e"], 2)],
        "operations/0/outputs",
        "'s' has no items; what the operation writes there has 2",
    ),
    "there is an explanation for each item": (
        [PREDICTIONS, *scored([1, 0], ["x", "y"])],
        [evaluate("1", ["p"], ["s", "e"], 2)],
        "operations/0/outputs",
        "'e' has 2 items; what the operation writes there has none",
    ),
    "the explanation is a number": (
        [value("p"), *scored(0, 1)],
        [evaluate("1", ["p"], ["s", "e"])],
        "operations/0/outputs",
        "'e' is no text; the second output is the explanation",
    ),
    "the score is a text": (
        [value("p"), *scored("good")],
        [evaluate("1", ["p"], ["s", "e"])],
        "operations/0/outputs",
        "'s' is no number; the first output is the score",
    ),
    "one of the scores is a text": (
        [PREDICTIONS, *scored([1, "good"])],
        [evaluate("1", ["p"], ["s", "e"], 2)],
        "operations/0/outputs",
        "'s' is no number",
    ),
    "a parameter of a function has no name": (
        [value("a"), value("b", "1")],
        [function("1", ["a", "a"], ["b"], parameters=["x"])],
        "operations/0/parameters",
        "has 1 names; give one for each of the 2 inputs",
    ),
    "a function has too few errors": (
        [PREDICTIONS, value("b", "1", ["x", "y"])],
        [function("1", ["p"], ["b"], errors=[None])],
        "operations/0/errors",
        "has 1 entries; give one for each sample, which makes 2",
    ),
    "a function of a batch gives one value": (
        [PREDICTIONS, value("b", "1")],
        [function("1", ["p"], ["b"])],
        "operations/0/outputs",
        "has no items; what the operation writes there has 2",
    ),
}


@pytest.mark.parametrize(
    ("variables", "operations", "path", "told"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys()
)
def test_a_tape_that_contradicts_itself_is_refused_with_the_path(variables, operations, path, told):
    """One scan finds every contradiction and names where it stands."""
    with pytest.raises(ValidationError) as caught:
        Graph.model_validate({"variables": variables, "operations": operations})
    (problem,) = caught.value.errors()
    assert problem["msg"].startswith(f"Value error, {path}: ")
    assert told in problem["msg"]


@pytest.mark.parametrize(
    ("variables", "operations", "path", "told"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys()
)
def test_the_path_of_a_contradiction_is_the_path_of_the_refusal(variables, operations, path, told):
    """Whoever sent the graph is told the path as a field of its own."""
    body = Graph.model_construct(variables=variables, operations=operations).model_dump_json(warnings=False)
    with pytest.raises(Refused) as caught:
        decode(body.encode(), Graph)
    error = caught.value.error
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, path)
    assert told in error.message


def test_variables_may_stand_in_any_order(example):
    """Only the order of the operations says what came before what."""
    turned = copy.deepcopy(example)
    turned["variables"].reverse()
    assert Graph.model_validate(turned).index.writers == {"c2…": 0}


def test_an_operation_may_read_one_variable_many_times():
    """Every read is a position of its own."""
    graph = Graph.model_validate(
        {
            "variables": [value("a"), value("b", "1")],
            "operations": [call("1", ["a", "a"], ["b"], inputs={"x": "a"})],
        }
    )
    assert [position.variable for position in graph.index.positions[0]] == ["a", "a", "a"]


def test_an_operation_may_write_several_variables_or_none():
    """Each choice is an output; an operation that wrote nothing is still a step."""
    graph = Graph.model_validate(
        {
            "variables": [value("a"), value("b", "1"), value("c", "1")],
            "operations": [call("1", ["a"], ["b", "c"]), call("2", ["b"], [])],
        }
    )
    assert graph.index.writers == {"b": 0, "c": 0}


def test_a_variable_may_name_a_producer_that_the_graph_does_not_hold():
    """A fragment reads what was written elsewhere."""
    graph = Graph.model_validate(
        {"variables": [value("a", "elsewhere"), value("b", "1")], "operations": [call("1", ["a"], ["b"])]}
    )
    assert graph.index.writers == {"b": 0}


def test_the_index_tells_how_many_samples_every_operation_has():
    """A batch comes from list data or from a list of ids; scalars are broadcast to it."""
    graph = Graph.model_validate(
        {
            "variables": [
                value("a"),
                value("b", None, ["x", "y"]),
                value("c", "1"),
                value("d", "2", ["x", None]),
                value("e", "3", ["x", "y", "z"]),
            ],
            "operations": [
                call("1", ["a"], ["c"]),
                call("2", ["a", "b"], ["d"]),
                call("3", ["c"], ["e"], inputs={"n": ["a", "c", "a"]}),
            ],
        }
    )
    assert graph.index.batches == (None, 2, 3)
    assert graph.index.operations == {"1": 0, "2": 1, "3": 2}


def test_a_chain_of_five_thousand_operations_is_scanned_without_recursion():
    """A long tape is an ordinary input."""
    length = 5000
    graph = Graph.model_validate(
        {
            "variables": [
                {**value("0"), "requires_grad": True},
                *(value(str(at), f"op{at}") for at in range(1, length + 1)),
            ],
            "operations": [call(f"op{at}", [str(at - 1)], [str(at)]) for at in range(1, length + 1)],
        }
    )
    assert graph.requires_grad(str(length))
