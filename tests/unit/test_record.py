"""The tape of one job: the names of its values before the call, and what it wrote after it."""

import hashlib
import json

import pytest

from backtalk.wire.errors import Code, Refused
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob
from forward_worker.draft import canonical, draft
from forward_worker.record import fragment, reply

KEY = "work-key"
SYSTEM = {
    "id": "sys",
    "data": "You are a helpful assistant.",
    "role": "system instruction",
    "requires_grad": True,
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}


def job(*messages, **fields):
    told = [m if isinstance(m, dict) else {"role": "user", "content": m} for m in messages or ("Hello",)]
    return CompletionJob.model_validate({"model": "m", "messages": told, **fields})


def drafted(*messages, key=KEY, **fields):
    return draft(job(*messages, **fields), key)


def variables(planned):
    return list(planned.conversation.variables.values())


def recorded(*messages, replies=(["fine"],), key=KEY, **fields):
    made = job(*messages, **fields)
    return fragment(draft(made, key), made, "openai", replies, None)


def refusal(*messages, **fields):
    with pytest.raises(Refused) as caught:
        drafted(*messages, **fields)
    return caught.value.error


def test_the_example_of_the_design_is_recorded_as_the_design_shows_it(example):
    """The same job gives the same graph, but for the ids that the worker derives."""
    graph = recorded(
        {"role": "system", "content": [SYSTEM]},
        "Translate 'Hello' to {language}.",
        inputs={"language": {"id": "lang", "data": "Italian"}},
        model="gpt-4o",
        replies=[["Ciao"]],
    )
    user, output = graph.operations[0].messages[1].content[0], graph.operations[0].outputs[0]
    text = json.dumps(example, ensure_ascii=False)
    for shown, derived in {"7f…": user, "c2…": output, "a9…": graph.operations[0].id}.items():
        text = text.replace(shown, derived)
    expected = json.loads(text)
    got = graph.model_dump(mode="json")
    for whole in (expected, got):
        whole["variables"].sort(key=lambda variable: variable["id"])
    assert got == expected


# ---- ids


def test_a_redelivered_job_writes_the_same_ids():
    """Ids derive from the work key and from nothing else."""
    fields = {"inputs": {"x": ["a", "b"], "y": "c"}, "replies": [["1", "2"], ["3", "4"]]}
    assert recorded("{x} {y}", IMAGE["type"], **fields) == recorded("{x} {y}", IMAGE["type"], **fields)


def test_another_job_writes_other_ids():
    """Two jobs with the same words share no derived id."""
    one, other = (recorded("{x}", inputs={"x": "a"}, key=key) for key in ("one", "other"))
    ids = [{v.id for v in graph.variables} | {o.id for o in graph.operations} for graph in (one, other)]
    assert ids[0].isdisjoint(ids[1])


def test_a_variable_keeps_the_id_its_sender_gave_it():
    """That is how graphs of several jobs are joined."""
    assert {variable.id for variable in variables(drafted([SYSTEM]))} == {"sys"}


def test_values_without_an_id_get_one_each():
    """Equal words at two places are two values."""
    assert len({variable.id for variable in variables(drafted("same", "same", ["same", "same"]))}) == 4


def test_graphs_of_two_jobs_with_a_shared_variable_join():
    """The shared prompt is one variable in the whole graph."""
    one, other = (recorded({"role": "system", "content": [SYSTEM]}, "q", key=key) for key in ("one", "other"))
    assert [v.id for v in Graph.join(one, other).parameters()] == ["sys"]


# ---- variables


def test_what_a_sender_leaves_out_is_filled_in():
    """The role is the message's or the input's name; a gradient is wanted only when asked for."""
    planned = drafted(
        {"role": "system", "content": [{"data": "s"}]},
        ["t", {"data": "u", "role": "question", "name": "q", "requires_grad": True}],
        {"role": "user", "content": "{language}{n}"},
        inputs={"language": "Italian", "n": {"data": 3}},
    )
    told = [(v.data, v.role, v.requires_grad, v.name) for v in variables(planned)]
    assert told == [
        ("s", "system message", False, None),
        ("t", "user message", False, None),
        ("u", "question", True, "q"),
        ("{language}{n}", "user message", False, None),
        ("Italian", "language", False, None),
        (3, "n", False, None),
    ]


def test_an_empty_role_that_was_given_is_kept():
    """Only what is left out is filled in."""
    assert variables(drafted([{"data": "x", "role": ""}]))[0].role == ""


def test_a_variable_that_another_job_wrote_keeps_its_producer():
    """Sent on as the result gave it, it is where the graphs are joined."""
    graph = recorded([{"id": "o", "data": "x", "producer": "op", "requires_grad": True}])
    assert (graph.variables[0].producer, graph.leaves()) == ("op", ())


@pytest.mark.parametrize(
    ("item", "is_text"),
    [
        ("plain", True),
        ({"type": "text", "text": "plain"}, True),
        ({"type": "text", "text": "plain", "cache_control": {"type": "ephemeral"}}, False),
        (IMAGE, False),
        ({"type": "text", "data": "x"}, False),
    ],
    ids=str,
)
def test_each_text_is_a_variable_and_each_other_part_is_a_part(item, is_text):
    """A text part that says nothing but its text is a text; one with more to say stays whole."""
    planned = drafted([item])
    assert (len(planned.conversation.variables), len(planned.conversation.parts)) == (
        (1, 0) if is_text else (0, 1)
    )


def test_a_text_keeps_its_position_among_parts():
    """The path of a text counts the parts before it."""
    graph = recorded(["one", IMAGE, {"type": "text", "text": "two"}])
    assert [position.path for position in graph.index.positions[0]] == [
        "messages/0/content/0",
        "messages/0/content/2",
    ]


def test_a_part_is_stored_once_under_its_hash():
    """The same picture in ten messages lies in the graph once, however its keys are ordered."""
    turned = dict(reversed(list(IMAGE.items())))
    graph = recorded([IMAGE, "a", IMAGE], [turned])
    assert graph.parts == {hashlib.sha256(canonical(IMAGE).encode()).hexdigest(): IMAGE}
    assert len(graph.operations[0].part_refs()) == 3


@pytest.mark.parametrize(
    ("variable", "again"),
    [
        ({"id": "v", "data": "x"}, {"id": "v", "data": "x"}),
        ({"id": "v", "data": 1}, {"id": "v", "data": 1.0}),
        ({"id": "v", "data": ["x"], "role": "r"}, {"id": "v", "data": ["x"], "role": "r"}),
    ],
    ids=["text", "number", "batch"],
)
def test_a_variable_may_stand_in_a_job_twice(variable, again):
    """The same value at two places of one message is one variable with two positions."""
    graph = recorded([variable, again], replies=[["1"]])
    assert [position.variable for position in graph.index.positions[0]] == ["v", "v"]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "system", "content": [{"id": "v", "data": "x"}]}]},
        {"inputs": {"a": {"id": "v", "data": "x"}}},
    ],
    ids=["in messages of two roles", "in a message and an input"],
)
def test_a_variable_without_a_role_may_stand_at_two_kinds_of_places(fields):
    """The sender said the same thing twice; a role the worker filled in is no contradiction."""
    made = CompletionJob.model_validate(
        {
            "model": "m",
            "messages": [
                *fields.get("messages", []),
                {"role": "user", "content": [{"id": "v", "data": "x"}, "{a}"]},
            ],
            "inputs": fields.get("inputs", {"a": "y"}),
        }
    )
    assert "v" in draft(made, KEY).conversation.variables


@pytest.mark.parametrize(
    "other",
    [{"data": "y"}, {"role": "s"}, {"name": "n"}, {"requires_grad": True}, {"producer": "p"}, {"data": True}],
    ids=str,
)
def test_one_id_with_two_values_in_a_job_is_a_conflict(other):
    """Both values are shown, and the path of the second."""
    first = {"id": "v", "data": 1, "role": "r"}
    error = refusal([first, {**first, **other}])
    assert error.code == Code.GRAPH_CONFLICT
    assert error.message.startswith("messages/0/content/1: ")
    ((field, value),) = other.items()
    assert error.details["values"][1][field] == value


# ---- inputs and batches


def test_an_input_that_no_message_uses_is_refused():
    """A typing error in a placeholder would otherwise go unnoticed."""
    error = refusal("Hello {nmae}", inputs={"name": "x"})
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, "inputs/name")
    assert "{name}" in error.message


@pytest.mark.parametrize(
    "content",
    ["{x}", ["a", "{x}"], [{"data": "{x}"}], [{"type": "image_url", "image_url": {"url": "{x}"}}]],
    ids=str,
)
def test_an_input_may_be_used_by_any_text_or_part(content):
    """Also by a leaf of a part."""
    drafted(content, inputs={"x": "y"})


@pytest.mark.parametrize(
    ("content", "inputs", "batch"),
    [
        ("x", {}, None),
        ("{a}", {"a": "x"}, None),
        ("{a}", {"a": ["x"]}, 1),
        ("{a}", {"a": ["x", "y"]}, 2),
        ("{a}", {"a": {"data": ["x", "y", "z"]}}, 3),
        ("{a}", {"a": [{"data": "x"}, "y"]}, 2),
        ([{"data": ["x", "y"]}], {}, 2),
        (["{a}", {"data": ["x", "y"]}], {"a": "broadcast"}, 2),
        (["{a}{b}", {"data": ["x", "y"]}], {"a": ["x", "y"], "b": [{"data": 1}, {"data": 2}]}, 2),
    ],
    ids=str,
)
def test_any_list_makes_the_job_a_batch(content, inputs, batch):
    """Lists in inputs, lists of Variables, list data anywhere; scalars are broadcast."""
    planned = drafted(content, inputs=inputs)
    assert planned.batch == batch
    assert list(planned.samples) == ([None] if batch is None else list(range(batch)))


def test_a_plain_list_of_strings_is_one_list_variable():
    """It has one id and one role."""
    planned = drafted("{a}", inputs={"a": ["x", "y"]})
    assert [(v.data, v.role) for v in variables(planned)][1:] == [(("x", "y"), "a")]


def test_a_list_with_a_variable_in_it_is_a_list_of_ids():
    """Each item can be wanted for itself."""
    planned = drafted("{a}", inputs={"a": ["x", {"id": "v", "data": "y", "requires_grad": True}]})
    first, second = planned.conversation.inputs["a"]
    assert second == "v"
    assert planned.conversation.variables[first].data == "x"


@pytest.mark.parametrize(
    ("content", "inputs"),
    [
        ("{a}{b}", {"a": ["x", "y"], "b": ["x", "y", "z"]}),
        ("{a}{b}", {"a": ["x", "y"], "b": [{"data": "x"}]}),
        (["{a}", {"data": ["x"]}], {"a": ["x", "y"]}),
        ([{"data": ["x"]}, {"data": ["x", "y"]}], {}),
    ],
    ids=str,
)
def test_unequal_lengths_are_refused_with_both(content, inputs):
    """Results are index-aligned, so the lists must be."""
    error = refusal(content, inputs=inputs)
    assert error.code == Code.INVALID_MESSAGE
    assert "batch lengths differ" in error.message


def test_a_batch_inside_a_list_is_refused():
    """A list of list Variables has no order of items."""
    error = refusal("{a}", inputs={"a": [{"data": "x"}, {"data": ["y"]}]})
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, "inputs/a/1")


@pytest.mark.parametrize("where", ["message", "input"])
@pytest.mark.parametrize(("items", "fits"), [(256, True), (257, False)])
def test_a_batch_has_at_most_256_items(where, items, fits):
    """What is larger is several jobs."""
    variable = {"data": ["x"] * items}
    content, inputs = ([variable], {}) if where == "message" else ("{a}", {"a": variable})
    if fits:
        assert drafted(content, inputs=inputs).batch == 256
    else:
        assert (
            refusal(content, inputs=inputs).details["path"].startswith(("messages/0/content/0", "inputs/a"))
        )


# ---- whether there is a tape


@pytest.mark.parametrize(
    ("content", "inputs", "holds"),
    [
        ("x", {}, False),
        (["x", IMAGE], {}, False),
        ("{a}{b}", {"a": "x", "b": ["y"]}, False),
        ([{"data": "x"}], {}, True),
        ("{a}", {"a": {"data": "x"}}, True),
        ("{a}", {"a": ["x", {"data": "y"}]}, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("record", [None, "auto", "always", "never"])
def test_a_job_is_recorded_when_it_holds_a_variable_or_says_so(content, inputs, holds, record):
    """Who sends plain OpenAI bodies is not sent graphs, unless he asks for them."""
    options = {"backtalk": {"record": record}} if record else {}
    wanted = drafted(content, inputs=inputs, **options).wanted
    assert wanted is {"always": True, "never": False}.get(record, holds)


# ---- after the call


def test_everything_a_rule_needs_is_on_the_tape():
    """Endpoint, model, arguments, tools and the other fields of messages."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    answer = {"role": "tool", "content": "21", "tool_call_id": "1"}
    graph = recorded(
        {"role": "user", "content": "x", "name": "ada"},
        call,
        answer,
        tools=tools,
        tool_choice="auto",
        temperature=0,
        n=1,
        backtalk={"endpoint": "e"},
    )
    (operation,) = graph.model_dump(mode="json")["operations"]
    assert operation["endpoint"] == "openai"
    assert operation["model"] == "m"
    assert operation["arguments"] == {"temperature": 0, "n": 1}
    assert (operation["tools"], operation["tool_choice"]) == (tools, "auto")
    assert [{key: value for key, value in m.items() if key != "content"} for m in operation["messages"]] == [
        {"role": "user", "name": "ada"},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1"},
    ]
    assert operation["messages"][1]["content"] is None


def test_the_output_answers_the_last_message():
    """Its role says to what, its producer by what."""
    graph = recorded("first", [{"data": "last", "role": "question"}], replies=[["fine"]])
    output = graph.variables[-1]
    assert (output.data, output.role, output.producer) == (
        "fine",
        "response to question",
        graph.operations[0].id,
    )


@pytest.mark.parametrize("requires_grad", [True, False])
def test_the_output_requires_a_gradient_when_anything_read_does(requires_grad):
    """Derived, as everywhere."""
    output = recorded([{"data": "x", "requires_grad": requires_grad}], "y").variables[-1]
    assert output.requires_grad is requires_grad


def test_a_batch_writes_one_list_with_null_where_an_item_failed():
    """Outputs are index-aligned with the inputs."""
    graph = recorded("{a}", inputs={"a": ["x", "y", "z"]}, replies=[["1"], None, ["3"]])
    assert graph.variables[-1].data == ("1", None, "3")


def test_a_batch_of_one_is_a_batch():
    """A list stays a list whatever its length."""
    assert recorded("{a}", inputs={"a": ["x"]}, replies=[["1"]]).variables[-1].data == ("1",)


def test_every_choice_is_a_variable():
    """Several choices are several outputs, each a list in a batch; what an item lacks is null."""
    graph = recorded("{a}", inputs={"a": ["x", "y", "z"]}, n=2, replies=[["1a", "1b"], None, ["3a"]])
    assert [graph.variables[at].data for at in (-2, -1)] == [("1a", None, "3a"), ("1b", None, None)]
    assert len(graph.operations[0].outputs) == 2


def test_a_fragment_is_a_graph_that_travels():
    """What the worker records, the other worker decodes."""
    graph = recorded([SYSTEM, IMAGE, "{a}"], inputs={"a": ["x", {"data": 2}]}, replies=[["1"], None])
    assert Graph.model_validate_json(graph.model_dump_json()) == graph


# ---- the raw reply


def call(name, arguments):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "hello"}, "hello"),
        ({"content": " two\nlines "}, " two\nlines "),
        ({"content": ""}, ""),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": "a", "tool_calls": None}, "a"),
        ({"content": "a", "tool_calls": []}, "a"),
    ],
    ids=str,
)
def test_a_reply_is_its_raw_text(message, text):
    """Nothing is stripped and nothing added."""
    assert reply(message) == text


@pytest.mark.parametrize("content", [None, "", "Let me look.", "two\nlines"])
def test_native_tool_calls_follow_as_a_line_of_canonical_json_each(content):
    """Name and arguments, after the text, in one spelling."""
    calls = [call("weather", '{"city": "Zürich",\n "days": 2}'), call("time", "{}")]
    text = reply({"content": content, "tool_calls": calls})
    lines = text.removeprefix(content or "").strip("\n").split("\n")
    told = [json.loads(line) for line in lines]
    assert [one["name"] for one in told] == ["weather", "time"]
    assert all(one.keys() == {"name", "arguments"} for one in told)
    assert lines == [canonical(one) for one in told]
    assert text.startswith(f"{content}\n" if content else "{")


def test_a_call_of_a_custom_tool_is_not_lost():
    """OpenAI's custom tools are called by name with a text."""
    custom = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}}
    text = reply({"content": None, "tool_calls": [custom]})
    assert "shell" in text
    assert "ls -l" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1, 2]}, '{"a":[1,2],"b":1}'),
        ("ü", '"ü"'),
        ({"a": {"d": 1, "c": None}}, '{"a":{"c":null,"d":1}}'),
    ],
    ids=str,
)
def test_equal_values_have_one_spelling(value, text):
    """Sorted keys, no spaces, no escapes that are not needed."""
    assert canonical(value) == text
