"""The tape: what a graph says of its variables, and how it stands in JSON."""

import pytest
from pydantic import ValidationError

from backtalk.wire.codec import decode, encode
from backtalk.wire.graph import ChatCompletion, Graph, Position, Variable, escape


def test_the_graph_of_the_design_decodes_and_encodes_to_the_same_json(example):
    """The example of the design is a valid graph, and writing it loses and adds nothing."""
    assert Graph.model_validate(example).model_dump(mode="json") == example


def test_a_graph_with_everything_in_it_survives_the_round_trip():
    """Every field of the design stands in the JSON and comes back equal."""
    whole = {
        "schema_version": 1,
        "variables": [
            {"id": "s", "data": "Be brief.", "role": "instruction", "requires_grad": True, "name": "system"},
            {"id": "n", "data": 3, "role": "count", "requires_grad": False},
            {"id": "x", "data": 0.5, "role": "weight", "requires_grad": False},
            {"id": "t", "data": True, "role": "switch", "requires_grad": False},
            {"id": "b", "data": ["one", 2, 2.5, False, None], "role": "batch", "requires_grad": False},
            {"id": "e", "data": "outside", "role": "earlier", "requires_grad": True, "producer": "gone"},
            {
                "id": "o",
                "data": ["a", "b", "c", "d", None],
                "role": "r",
                "requires_grad": True,
                "producer": "1",
            },
        ],
        "operations": [
            {
                "id": "1",
                "op": "chat_completion",
                "endpoint": "local",
                "model": "org/model",
                "arguments": {"temperature": 0.5, "seed": 1, "response_format": {"type": "json_object"}},
                "messages": [
                    {"role": "system", "content": ["s", "n", "x", "t"], "name": "boss"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
                    },
                    {"role": "tool", "content": ["e"], "tool_call_id": "c"},
                    {"role": "user", "content": ["b", {"part": "p"}]},
                ],
                "inputs": {"list": ["s", "s", "s", "s", "s"], "one": "s"},
                "tools": [
                    {"type": "function", "function": {"name": "f", "description": {"variable": "s"}}},
                    {"type": "function", "function": {"name": "g", "description": "d"}},
                ],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "tool_templates": {
                    "force_call": {"prefix": {"variable": "n"}, "suffix": ""},
                    "position": "bottom",
                },
                "injected": {
                    "mode": "inject",
                    "call_token": "!call:",
                    "side": "bottom",
                    "block": [
                        {"variable": "n", "form": "words"},
                        '[{"description":"',
                        {"variable": "s", "form": "json"},
                        '"}]',
                    ],
                    "messages": [{"message": 2, "role": "user", "before": "<", "after": ">"}],
                    "turns": [{"sample": 4, "choice": 0, "reply": "no", "told": "again"}],
                },
                "outputs": ["o"],
            }
        ],
        "parts": {"p": {"type": "image_url", "image_url": {"url": "https://example.org/{one}.png"}}},
    }
    graph = Graph.model_validate(whole)
    assert graph.model_dump(mode="json") == whole
    assert decode(encode(graph), Graph) == graph


def test_an_empty_graph_is_a_graph():
    """A tape without entries contradicts nothing."""
    assert Graph.model_validate({}).model_dump(mode="json") == {
        "schema_version": 1,
        "variables": [],
        "operations": [],
    }


@pytest.mark.parametrize(
    ("field", "value"), [("variables", ()), ("operations", ()), ("schema_version", 1), ("parts", {})]
)
def test_a_graph_is_frozen(example, field, value):
    """What was recorded cannot be assigned anew."""
    graph = Graph.model_validate(example)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(graph, field, value)


@pytest.mark.parametrize("kind", ["variables", "operations"])
def test_the_entries_of_a_graph_are_frozen(example, kind):
    """An id names one value for ever, so its entry cannot change."""
    entry = getattr(Graph.model_validate(example), kind)[0]
    with pytest.raises(ValidationError, match="frozen"):
        entry.id = "another"


def test_the_index_is_made_once(example):
    """The tape is scanned when it is decoded and never again."""
    graph = Graph.model_validate(example)
    assert graph.index is graph.index
    assert "index" in graph.__dict__


def test_the_index_is_no_part_of_what_a_graph_equals_or_says(example):
    """Looking things up changes neither equality nor the JSON."""
    graph = Graph.model_validate(example)
    again = Graph.model_validate(example)
    assert graph.index.positions
    assert graph == again
    assert "index" not in graph.model_dump()


def test_leaves_are_what_no_operation_wrote_and_parameters_want_a_gradient(graph_of):
    """A variable with a producer is no leaf, whether the producer is in the graph or not."""
    graph = graph_of(
        {
            "sys": {"data": "s", "requires_grad": True},
            "question": "q",
            "outside": {"data": "o", "producer": "gone", "requires_grad": True},
            "answer": {"data": "a", "requires_grad": True},
        },
        ("op", "sys question outside", "answer"),
    )
    assert [leaf.id for leaf in graph.leaves()] == ["sys", "question"]
    assert [parameter.id for parameter in graph.parameters()] == ["sys"]


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize(("leaf", "derived"), [(True, True), (False, False)])
def test_requires_grad_of_written_variables_is_derived_not_believed(graph_of, stated, leaf, derived):
    """What a written variable states counts for nothing: what was read decides, over any distance."""
    graph = graph_of(
        {
            "a": {"data": "1", "requires_grad": leaf},
            "b": {"data": "2", "requires_grad": stated},
            "c": {"data": "3", "requires_grad": stated},
        },
        ("first", "a", "b"),
        ("second", "b", "c"),
    )
    assert [graph.requires_grad(id) for id in "abc"] == [leaf, derived, derived]


@pytest.mark.parametrize("stated", [True, False])
def test_requires_grad_of_a_variable_written_outside_is_believed(graph_of, stated):
    """Nobody here can derive it, so what a fragment states of an outside variable counts."""
    graph = graph_of(
        {"a": {"data": "1", "requires_grad": stated, "producer": "gone"}, "b": "2"}, ("op", "a", "b")
    )
    assert [graph.requires_grad(id) for id in "ab"] == [stated, stated]


def test_positions_are_json_pointers_in_the_order_messages_then_inputs(graph_of):
    """Every read has a path, in the order of the messages and then of the inputs; a list of ids has samples."""
    graph = graph_of(
        {"a": "1", "b": "2", "c": "3", "out": ["x", "y"]},
        (
            "op",
            "",
            "out",
            {
                "messages": [
                    {"role": "system", "content": ["a", {"part": "p"}, "b"]},
                    {"role": "assistant", "content": None},
                    {"role": "user", "content": ["a"]},
                ],
                "inputs": {"z": "c", "b/~": ["a", "b"]},
            },
        ),
        parts={"p": {"type": "image_url"}},
    )
    assert graph.operations[0].positions() == (
        Position("messages/0/content/0", None, "a"),
        Position("messages/0/content/2", None, "b"),
        Position("messages/2/content/0", None, "a"),
        Position("inputs/z", None, "c"),
        Position("inputs/b~1~0", 0, "a"),
        Position("inputs/b~1~0", 1, "b"),
    )


# ---- tools

TOLD = {
    "messages": [{"role": "user", "content": ["u"]}],
    "inputs": {"x": "i"},
    "tools": [
        {"type": "function", "function": {"name": "f", "description": {"variable": "f"}}},
        {
            "type": "function",
            "function": {
                "name": "g",
                "parameters": {"properties": {"a/b": {"description": {"variable": "p"}}}},
                "description": {"variable": "g"},
            },
        },
    ],
    "tool_templates": {
        "force_call": {"prefix": {"variable": "force"}},
        "function_list": {"prefix": "text", "suffix": {"variable": "list"}},
    },
}
NAMES = ("u", "i", "f", "g", "p", "force", "list")
READS = {
    "f": "tools/0/function/description",
    "p": "tools/1/function/parameters/properties/a~1b/description",
    "g": "tools/1/function/description",
    "list": "tool_templates/function_list/suffix",
    "force": "tool_templates/force_call/prefix",
}


def shows(*variables, **fields):
    return {"mode": "inject", "block": ["[", *({"variable": id} for id in variables), "]"], **fields}


@pytest.fixture
def told(graph_of):
    """Return the builder of a graph whose one operation has tools; some of its fields may be others."""

    def build(data="text", **fields):
        more = {name: value for name, value in {**TOLD, **fields}.items() if value is not None}
        return graph_of({**{id: {"data": data} for id in NAMES}, "out": data}, ("op", "", "out", more))

    return build


@pytest.mark.parametrize(
    ("injected", "read"),
    [
        (None, ["f", "p", "g", "list", "force"]),
        ({"mode": "native"}, ["f", "p", "g", "list", "force"]),
        (shows(*reversed(READS)), ["f", "p", "g", "list", "force"]),
        (shows("list", "f", "p", "g"), ["f", "p", "g", "list"]),
        (shows("force", "f", "f"), ["f", "force"]),
        (shows(), []),
        ({"mode": "inject"}, []),
    ],
    ids=str,
)
def test_texts_of_tools_are_read_where_the_model_got_to_see_them(told, injected, read):
    """After messages and inputs, tools before templates; of a forced call those of one function alone."""
    (operation,) = told(injected=injected).operations
    assert operation.positions() == (
        Position("messages/0/content/0", None, "u"),
        Position("inputs/x", None, "i"),
        *(Position(READS[id], None, id) for id in read),
    )


@pytest.mark.parametrize(
    ("fields", "sends"),
    [
        ({}, True),
        ({"injected": {"mode": "native"}}, True),
        ({"injected": {"mode": "inject"}}, False),
        ({"tools": None}, False),
        ({"tools": None, "injected": {"mode": "inject"}}, False),
    ],
    ids=str,
)
def test_an_operation_knows_whether_its_endpoint_got_the_tools(told, fields, sends):
    """Themselves, not only words about them."""
    assert told(**fields).operations[0].sends_tools is sends


@pytest.mark.parametrize("tools", [None, []])
def test_templates_without_tools_are_not_read(told, tools):
    """Nobody was shown anything."""
    (operation,) = told(tools=tools).operations
    assert [place.path for place in operation.positions()] == ["messages/0/content/0", "inputs/x"]


def test_a_text_of_a_tool_is_a_read_like_any_other(told):
    """It can make an operation a batch, and hands on that a gradient is wanted."""
    graph = told(data=["a", "b"], injected=shows("f"))
    assert graph.index.batches == (2,)
    document = graph.model_dump(mode="json")
    document["variables"][2]["requires_grad"] = True
    assert Graph.model_validate(document).requires_grad("out")
    document["operations"][0]["injected"]["block"] = []
    assert not Graph.model_validate(document).requires_grad("out")


@pytest.mark.parametrize(
    ("name", "escaped"), [("plain", "plain"), ("a/b", "a~1b"), ("a~b", "a~0b"), ("~1", "~01"), ("", "")]
)
def test_steps_of_a_path_are_escaped_as_json_pointers_are(name, escaped):
    """A slash in a name is no new step of the path."""
    assert escape(name) == escaped


@pytest.mark.parametrize(
    ("data", "sample", "value"),
    [("text", None, "text"), ("text", 3, "text"), (["a", None], 0, "a"), (["a", None], 1, None), (0, 7, 0)],
)
def test_a_scalar_serves_every_item_of_a_batch(data, sample, value):
    """A batch is read by item, a scalar is the same for all."""
    assert Variable(id="v", data=data, role="r").value(sample) == value


def test_a_batch_cannot_be_read_as_a_whole():
    """Whoever reads a batch names the item."""
    with pytest.raises(ValueError, match="'v' is a batch"):
        Variable(id="v", data=["a"], role="r").value(None)


@pytest.mark.parametrize(
    "data", ["", "text", 0, -3, 2**70, 0.5, True, False, ["a"], [None], [1, 1.5, True, "x"]]
)
def test_data_keeps_its_type(data):
    """Text, numbers and booleans come back as what they are: 1 is not true, and 1.0 is not 1."""
    kept = Variable(id="v", data=data, role="r").data
    kept = list(kept) if isinstance(kept, tuple) else kept
    assert repr(kept) == repr(data)


@pytest.mark.parametrize(
    "data", [None, [], {}, {"type": "text"}, [["a"]], [{}], float("nan"), float("inf"), [float("nan")], b"x"]
)
def test_data_that_is_no_scalar_and_no_list_of_them_is_refused(data):
    """A Variable holds text, a number, a boolean, or a list of them that is not empty."""
    with pytest.raises(ValidationError):
        Variable(id="v", data=data, role="r")


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "x" * 257},
        {"id": 5},
        {"role": None},
        {"requires_grad": "yes"},
        {"requires_grad": 1},
        {"producer": ""},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_variable_with_a_wrong_field_is_refused(wrong):
    """Wrong types and unknown fields are not guessed at."""
    with pytest.raises(ValidationError):
        Variable.model_validate({"id": "v", "data": "x", "role": "r", **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": "add"},
        {"op": None},
        {"messages": None},
        {"outputs": "o"},
        {"surprise": 1},
        {"inputs": {"a": {}}},
        {"tools": {}},
        {"tools": ["f"]},
        {"tool_templates": {"odd": {}}},
        {"tool_templates": {"force_call": {"prefix": {"data": "x"}}}},
        {"injected": {}},
        {"injected": {"mode": "inject", "block": [{"odd": 1}]}},
    ],
    ids=str,
)
def test_an_operation_with_a_wrong_field_is_refused(wrong):
    """The set of operations is closed, and each says exactly what its rule needs."""
    whole = {"id": "1", "endpoint": "openai", "model": "m", "messages": [], "outputs": []}
    with pytest.raises(ValidationError):
        ChatCompletion.model_validate({**whole, **wrong})


def test_a_list_of_ids_without_an_id_is_refused(graph_of):
    """An input that is an empty list has no item that any sample could read."""
    with pytest.raises(ValidationError):
        graph_of({"a": "say {x}", "b": "2"}, ("op", "a", "b", {"inputs": {"x": []}}))
