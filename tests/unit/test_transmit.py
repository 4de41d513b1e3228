"""Gradients through steps that no model takes: without a call, once, and with what they were said of."""

import pytest

from backtalk.wire.codec import validate
from backtalk.wire.errors import Refused
from backtalk.wire.graph import OPS, Graph
from backward_worker.ask import ModelAsker
from backward_worker.backward import backward
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.inquiry import Desk
from backward_worker.rules import TABLE, rules
from backward_worker.step import Contribution


def variable(id, data, producer=None, *, grad=True, role=None):
    written = {"producer": producer} if producer else {}
    return {"id": id, "data": data, "role": role or f"role of {id}", "requires_grad": grad, **written}


def step(op, id, inputs, outputs, **fields):
    return {"op": op, "id": id, "inputs": inputs.split(), "outputs": outputs.split(), **fields}


def graph_of(*entries):
    return Graph.model_validate(
        {
            "variables": [entry for entry in entries if "op" not in entry],
            "operations": [entry for entry in entries if "op" in entry],
        }
    )


def said(text, sample=None, id="f"):
    gradient = TextGradient(text, "copied") if text else EMPTY
    return Contribution(gradient, sample=sample, feedback=(id,))


async def gradients(model, graph, seeds, wanted):
    """Return the texts of the gradients of the wanted variables; no model may be asked."""
    result = await backward(graph, seeds, wanted.split(), rules(Desk(ModelAsker(model, None, None, {}))))
    assert model.bodies == []
    return {id: [one.gradient.text for one in found] for id, found in result.contributions.items()}


@pytest.mark.parametrize(
    ("op", "fields", "name"),
    [
        ("add", {}, '"role of out", of which this text is a part'),
        ("sum", {}, '"role of out", of which this text is a part'),
    ],
)
async def test_every_part_hears_what_is_said_of_the_whole(scripted, op, fields, name):
    """Each once, also where one text stands in both places: that is two entries."""
    entries = [variable("a", "x"), variable("b", "y"), variable("out", "xy", "op")]
    graph = graph_of(*entries, step(op, "op", "a b", "out", **fields))
    found = await gradients(scripted(), graph, {"out": [said("Shorter.")]}, "a b")
    assert found == {"a": [f"Said of {name}: Shorter."], "b": [f"Said of {name}: Shorter."]}
    twice = graph_of(variable("a", "x"), variable("out", "xx", "op"), step(op, "op", "a a", "out", **fields))
    assert len((await gradients(scripted(), twice, {"out": [said("No.")]}, "a"))["a"]) == 2


async def test_a_part_that_is_not_wanted_hears_nothing(scripted):
    """Only what leads to a wanted variable is gone back through."""
    graph = graph_of(
        variable("a", "x"),
        variable("b", "y", grad=False),
        variable("out", "xy", "op"),
        step("add", "op", "a b", "out"),
    )
    assert list(await gradients(scripted(), graph, {"out": [said("Shorter.")]}, "a")) == ["a"]


async def test_the_text_that_was_split_hears_of_its_parts(scripted):
    """One gradient, which says of which parts; those that nobody spoke of are left out."""
    parts = [variable(id, id, "op") for id in "xyz"]
    graph = graph_of(variable("a", "x y z"), *parts, step("split", "op", "a", "x y z"))
    found = await gradients(scripted(), graph, {"x": [said("One.")], "z": [said("Three."), said("")]}, "a")
    assert found["a"] == [
        'Said of "role of x", part 1 of 3 of this text: One.\nSaid of "role of z", part 3 of 3 of this text: Three.'
    ]


async def test_a_chain_adds_one_word_and_not_one_for_each_step(scripted):
    """It names what was criticised in the first place."""
    entries = [variable("v0", "x"), variable("c", "c", grad=False)]
    for at in range(5):
        entries += [variable(f"v{at + 1}", "x", f"op{at}"), step("add", f"op{at}", f"v{at} c", f"v{at + 1}")]
    found = await gradients(scripted(), graph_of(*entries), {"v5": [said("Shorter.")]}, "v0")
    assert found["v0"] == ['Said of "role of v5", of which this text is a part: Shorter.']


@pytest.mark.parametrize("op", ["add", "sum", "split", "edit"])
async def test_nothing_to_say_stays_nothing(scripted, op):
    """An empty gradient is passed on as one."""
    inputs = "a" if op in ("split", "edit") else "a a"
    graph = graph_of(variable("a", "x"), variable("out", "x", "op"), step(op, "op", inputs, "out"))
    found = await gradients(scripted(), graph, {"out": [said("")]}, "a")
    assert set(found["a"]) == {""}


async def test_each_item_of_a_batch_hears_of_itself(scripted):
    """A text that serves all items hears of each."""
    graph = graph_of(
        variable("a", ["p", "q"]),
        variable("b", "!"),
        variable("out", ["p!", "q!"], "op"),
        step("add", "op", "a b", "out"),
    )
    seeds = {"out": [said("First.", 0), said("Second.", 1)]}
    found = await gradients(scripted(), graph, seeds, "a b")
    of = 'Said of "role of out", of which this text is a part: '
    assert found == {"a": [f"{of}First.", f"{of}Second."], "b": [f"{of}First.", f"{of}Second."]}


async def test_an_edited_reply_is_shown_as_it_was_and_as_it_was_used(scripted):
    """The prompt has the model's text and the program's; what was said of the program's text is passed on."""
    chat = {
        "op": "chat_completion",
        "id": "chat",
        "endpoint": "openai",
        "model": "m",
        "messages": [{"role": "user", "content": ["p"]}],
        "outputs": ["reply"],
    }
    graph = graph_of(
        variable("p", "What?"),
        variable("reply", '{"label": "good"}', "chat"),
        variable("label", "good", "edit"),
        chat,
        step("edit", "edit", "reply", "label"),
    )
    model = scripted("Ask for bad ones.")
    result = await backward(
        graph, {"label": [said("Wrong.")]}, ["p"], rules(Desk(ModelAsker(model, None, None, {})))
    )
    (prompt,) = model.prompts
    assert (
        prompt.index('{"label": "good"}') < prompt.index("put this in its place") < prompt.index("\ngood\n")
    )
    assert 'Said of "role of label", which the program made of this text: Wrong.' in prompt
    assert [one.gradient.text for one in result.contributions["p"]] == ["Ask for bad ones."]


REGROUPED = (
    variable("a", ["a0", "a1", "a2"]),
    variable("b", "b"),
    variable("c", ["c0"]),
    variable("all", ["a0", "a1", "a2", "b", "c0"], "concat"),
    variable("some", ["a2", "b"], "slice"),
    step("concat", "concat", "a b c", "all", lengths=[3, None, 1]),
    step("slice", "slice", "all", "some", start=2, stop=4),
)


@pytest.mark.parametrize(
    ("seeds", "heard"),
    [
        ({"all": [(0, "x")]}, {"a": [("x", 0)], "b": [("", 0)], "c": [("", 0)]}),
        ({"all": [(3, "x"), (4, "y")]}, {"a": [], "b": [("x", 0)], "c": [("y", 0)]}),
        ({"some": [(0, "x")]}, {"a": [("x", 2)], "b": [], "c": []}),
        ({"some": [(None, "x")]}, {"a": [("x", 2)], "b": [("x", 0)], "c": []}),
        ({"all": [(2, "x")], "some": [(0, "y")]}, {"a": [("x\ny", 2)], "b": [], "c": []}),
    ],
)
async def test_what_is_said_of_an_item_reaches_it_in_its_own_batch(scripted, seeds, heard):
    """Put together and taken apart, an item keeps what is said of it, and gives it to no other."""
    given = {id: [said(text, sample) for sample, text in items] for id, items in seeds.items()}
    asker = ModelAsker(scripted(), None, None, {})
    result = await backward(graph_of(*REGROUPED), given, ["a", "b", "c"], rules(Desk(asker)))
    found = {
        id: [(one.gradient.text, one.sample) for one in items] for id, items in result.contributions.items()
    }
    assert {id: [one for one in items if one[0]] for id, items in found.items()} == {
        id: [one for one in items if one[0]] for id, items in heard.items()
    }


async def test_a_batch_that_was_put_together_is_named_by_what_it_is_part_of(scripted):
    """Regrouping says nothing of its own, so the next step gives the name."""
    graph = graph_of(
        variable("a", "a"),
        variable("b", "b"),
        variable("all", ["a", "b"], "concat"),
        variable("mark", "!", grad=False),
        variable("out", ["a!", "b!"], "add"),
        step("concat", "concat", "a b", "all", lengths=[None, None]),
        step("add", "add", "all mark", "out"),
    )
    found = await gradients(scripted(), graph, {"out": [said("No.", 1)]}, "a b")
    assert found["b"] == ['Said of "role of out", of which this text is a part: No.']
    assert "".join(found["a"]) == ""


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (step("slice", "op", "a", "out", start=0, stop=3), "there is no slice of it from 0 to 3"),
        (step("slice", "op", "a", "out", start=1, stop=1), "there is no slice"),
        (step("slice", "op", "s", "out", start=0, stop=1), "has no items"),
        (step("concat", "op", "a s", "out", lengths=[2]), "lengths: the inputs have [2, None], not [2]"),
        (step("concat", "op", "a s", "out", lengths=[2, 1]), "not [2, 1]"),
        (step("concat", "op", "a", "out", lengths=[2]), "has 1 items; what the operation writes there has 2"),
    ],
)
def test_a_regrouping_that_does_not_fit_is_refused(operation, told):
    """The tape says what it did, and is held to it."""
    entries = (variable("a", ["x", "y"]), variable("s", "z"), variable("out", ["x"], "op"), operation)
    with pytest.raises(ValueError, match="operations/0") as refused:
        graph_of(*entries)
    assert told in str(refused.value)


def test_every_operation_has_a_rule():
    """A row in the table for each member of the set, and none without."""
    assert set(TABLE) == set(OPS)


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ({"id": "op", "inputs": ["a"], "outputs": ["out"]}, "operations/0/op: is missing"),
        (
            step("multiply", "op", "a", "out"),
            "operations/0/op: expected one of chat_completion, add, sum, split, edit, slice, concat, evaluate, judge, function",
        ),
        (step("add", "op", "a", "out"), "inputs"),
        (step("split", "op", "a a", "out"), "inputs"),
        (step("sum", "op", "", "out"), "inputs"),
        (step("edit", "op", "a", "out out"), "outputs"),
        (step("add", "op", "a gone", "out"), "operations/0/inputs/1: reads 'gone'"),
        ({**step("sum", "op", "a", "out"), "odd": 1}, "odd"),
    ],
)
def test_a_step_that_is_none_is_refused_by_its_place(operation, told):
    """As every other contradiction of a graph."""
    entries = {"variables": [variable("a", "x"), variable("out", "x", "op")], "operations": [operation]}
    with pytest.raises(Refused) as refused:
        validate(entries, Graph)
    assert told in refused.value.error.message
    assert refused.value.error.details["path"].startswith("operations/0/")
