"""What the tools of a job come to: words in its messages, or tools for the endpoint."""

import copy
import json

import pytest

from backtalk.prompt import Conversation
from backtalk.wire.errors import Code, Refused, TooLarge
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob
from forward_worker.plan import Plan
from forward_worker.record import fragment
from forward_worker.tools.inject import Toolbox

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def function(name, **fields):
    return {"type": "function", "function": {"name": name, **fields}}


LOOK = function("look", description="Looks.", parameters={"type": "object", "properties": {"at": {}}})
AUTO = function("auto")
TOOLS = [LOOK, AUTO]
LOOK_LINE = '{"name":"look","description":"Looks.","parameters":{"type":"object","properties":{"at":{}}}}'
AUTO_LINE = '{"name":"auto","description":null,"parameters":null}'
BOTH = f"[\n{LOOK_LINE},\n{AUTO_LINE}\n]"
ONE = f"[\n{LOOK_LINE}\n]"
# no words but the tools
BARE = {"prefix": "", "suffix": ""}
PLAIN = {"function_list": BARE, "force_call": BARE}
NATIVE = {"tool_mode": "native"}


@pytest.fixture
def sent(plan_of):
    """Return what renders the messages of a job: `sent("Hello", tools=[…])`."""

    def render(*messages, sample=None, **fields):
        return plan_of(*messages, **fields).body(sample)["messages"]

    return render


@pytest.fixture
def content(sent):
    """Return the content of the only message of a job."""

    def render(*messages, **fields):
        (message,) = sent(*messages, **fields)
        return message["content"]

    return render


@pytest.fixture
def native(toolbox):
    """Return the toolbox of a worker whose default endpoint has tools of its own."""
    return Toolbox(toolbox.words, {"openai": "native", "local": "inject"})


def refusal(plan_of, *messages, **fields):
    with pytest.raises(Refused) as caught:
        plan_of(*messages, **fields)
    return caught.value.error


# ---- which tools, and in which words


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        (None, BOTH),
        ("auto", BOTH),
        ("required", BOTH),
        ({"type": "function", "function": {"name": "look"}}, ONE),
        ({"type": "function", "function": {"name": "auto"}}, f"[\n{AUTO_LINE}\n]"),
        ("look", ONE),
    ],
    ids=str,
)
def test_the_choice_says_which_tools_are_shown(content, choice, shown):
    """All of them, or the one that is named; the reserved words win over functions of their name."""
    chosen = {} if choice is None else {"tool_choice": choice}
    assert content("Hi", tools=TOOLS, tool_templates=PLAIN, **chosen) == f"{shown}\n\nHi"


def test_where_no_tool_may_be_called_nothing_is_injected(plan_of):
    """As if there were none."""
    plan = plan_of("Hi", tools=TOOLS, tool_choice="none", tool_templates=PLAIN)
    assert plan.body(None) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert plan.tooling.known is None


@pytest.mark.parametrize("tools", [{}, {"tools": None}, {"tools": []}, {"tools": [], "tool_choice": "auto"}])
def test_without_tools_nothing_is_injected(plan_of, tools):
    """A plain job goes as it came."""
    plan = plan_of("Hi", **tools)
    assert plan.body(None)["messages"] == [{"role": "user", "content": "Hi"}]
    assert (plan.tooling.injected, plan.tooling.known) == (None, None)


@pytest.mark.parametrize(
    "choice", ["nobody", {"type": "function", "function": {"name": "nobody"}}, "", "Look"]
)
def test_a_choice_of_no_tool_is_refused_with_those_that_are(job_of, choice):
    """The sender need not look them up."""
    with pytest.raises(Refused, match=r"^tool_choice: .*known are look, auto,") as caught:
        job_of(tools=TOOLS, tool_choice=choice)
    assert caught.value.error.code == Code.INVALID_MESSAGE


def test_nothing_about_tools_is_sent_beside_the_words(plan_of):
    """An endpoint that knows no tools refuses their fields."""
    body = plan_of("Hi", tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=1).body(None)
    assert body.keys() == {"model", "messages", "seed"}
    assert "make one call only" in body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("choice", "word"), [("auto", "You can"), ("required", "at least one"), ("look", "this function")]
)
def test_each_kind_of_choice_has_default_words(content, choice, word):
    """The model is told what is expected of it."""
    text = content("Hi", tools=TOOLS, tool_choice=choice)
    assert word in text.split("\n")[0]
    assert text.endswith("\n\nHi")
    assert '!function_call:{"name": ' in text


# ---- templates of the request


@pytest.mark.parametrize(
    ("templates", "block"),
    [
        (PLAIN, BOTH),
        ({"function_list": {"prefix": "P", "suffix": "S"}, "force_call": {"prefix": "X"}}, f"P\n{BOTH}\nS"),
        ({"function_list": {"prefix": "P", "suffix": ""}}, f"P\n{BOTH}"),
        ({"function_list": {"prefix": "", "suffix": "S"}}, f"{BOTH}\nS"),
        ({"function_list": {"prefix": "a\n", "suffix": "\nb\n"}}, f"a\n\n{BOTH}\n\nb\n"),
    ],
    ids=str,
)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_request_may_bring_words_for_the_list(content, templates, block, choice):
    """They serve a call that may be made and one that must be."""
    assert content("Hi", tools=TOOLS, tool_choice=choice, tool_templates=templates) == f"{block}\n\nHi"


def test_a_request_may_bring_words_for_a_forced_call(content):
    """Those for the list do not count then."""
    templates = {"function_list": {"prefix": "X"}, "force_call": {"prefix": "P", "suffix": "S"}}
    text = content("Hi", tools=TOOLS, tool_choice="look", tool_templates=templates)
    assert text == f"P\n{ONE}\nS\n\nHi"


@pytest.mark.parametrize(
    "templates",
    [
        None,
        {},
        {"function_list": None, "force_call": None, "position": None},
        {"function_list": {}, "force_call": {}},
        {
            "function_list": {"prefix": None, "suffix": None},
            "force_call": {"prefix": None},
            "position": "top",
        },
    ],
    ids=str,
)
@pytest.mark.parametrize("choice", ["auto", "required", "look"])
def test_what_is_absent_or_null_is_the_default(content, templates, choice):
    """Each part by itself, in any depth."""
    usual = content("Hi", tools=TOOLS, tool_choice=choice)
    assert content("Hi", tools=TOOLS, tool_choice=choice, tool_templates=templates) == usual


def test_one_side_may_be_replaced_alone(content):
    """The other has its default words."""
    usual = content("", tools=TOOLS)
    start, end = usual.split(BOTH)
    for name, text, expected in (("prefix", "P", f"P\n{BOTH}{end}"), ("suffix", "S", f"{start}{BOTH}\nS")):
        assert content("", tools=TOOLS, tool_templates={"function_list": {name: text}}) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{func_call_token}}", "!function_call:"),
        ("{{ func_call_token }}", "!function_call:"),
        ("{{func_call_token  }}{{\tfunc_call_token}}", "!function_call:!function_call:"),
        ("{{{func_call_token}}}", "{!function_call:}"),
        ("{func_call_token}", "{func_call_token}"),
        ("{{ func_call_token", "{{ func_call_token"),
        ("{{func_call_tokens}}", "{{func_call_tokens}}"),
        ("{{FUNC_CALL_TOKEN}}", "{{FUNC_CALL_TOKEN}}"),
        ("{{ func_call_token | upper }}", "{{ func_call_token | upper }}"),
        ("{{ 7 * 7 }}", "{{ 7 * 7 }}"),
        ("{% for x in range(9) %}x{% endfor %}{# #}", "{% for x in range(9) %}x{% endfor %}{# #}"),
        ("{{ ''.__class__.__mro__ }}", "{{ ''.__class__.__mro__ }}"),
        ("{name} {{name}} ${name} %(name)s \\1 \\g<0>", "{name} {{name}} ${name} %(name)s \\1 \\g<0>"),
    ],
)
@pytest.mark.parametrize("variable", [False, True], ids=["text", "variable"])
def test_only_the_call_token_means_anything_in_the_words_of_a_request(content, text, shown, variable):
    """No text of a message is a template, nor a place for an input."""
    words = {"prefix": {"data": text} if variable else text, "suffix": text}
    rendered = content("{name}", tools=TOOLS, tool_templates={"function_list": words}, inputs={"name": "x"})
    assert rendered == f"{shown}\n{BOTH}\n{shown}\n\nx"


def test_descriptions_are_shown_as_they_are(content):
    """Neither inputs nor the call token are put into them."""
    text = '{name} {{func_call_token}} "q" \\ \u2028'
    tool = function("f", description=text, parameters={"properties": {"a": {"description": {"data": text}}}})
    shown = content("{name}", tools=[tool], tool_templates=PLAIN, inputs={"name": "x"})
    (only,) = json.loads(shown.removesuffix("\n\nx"))
    assert only["description"] == only["parameters"]["properties"]["a"]["description"] == text


# ---- where the block stands


@pytest.mark.parametrize(
    ("position", "expected"), [("top", f"{BOTH}\n\nfirst"), ("bottom", f"first\n\n{BOTH}")]
)
def test_the_block_stands_in_the_first_message(sent, position, expected):
    """Before its content or after it, one blank line between; the others stay as they are."""
    messages = [{"role": "system", "content": "first"}, {"role": "user", "content": "second"}]
    rendered = sent(*messages, tools=TOOLS, tool_templates={**PLAIN, "position": position})
    assert rendered == [{"role": "system", "content": expected}, messages[1]]


@pytest.mark.parametrize("position", ["top", "bottom"])
@pytest.mark.parametrize(
    "nothing",
    [{"role": "assistant"}, {"role": "assistant", "content": None}, {"role": "user", "content": ""}],
)
def test_a_first_message_without_content_gets_the_block_as_content(content, position, nothing):
    """No blank line leads to nothing."""
    assert content(nothing, tools=TOOLS, tool_templates={**PLAIN, "position": position}) == BOTH


@pytest.mark.parametrize(
    ("items", "position", "expected"),
    [
        (["a", IMAGE, "b"], "top", [f"{BOTH}\n\na", IMAGE, "b"]),
        (["a", IMAGE, "b"], "bottom", ["a", IMAGE, f"b\n\n{BOTH}"]),
        ([IMAGE, "b"], "top", [f"{BOTH}\n\n", IMAGE, "b"]),
        (["a", IMAGE], "bottom", ["a", IMAGE, f"\n\n{BOTH}"]),
        ([IMAGE], "top", [f"{BOTH}\n\n", IMAGE]),
        ([IMAGE, IMAGE], "bottom", [IMAGE, IMAGE, f"\n\n{BOTH}"]),
        (["a", "b"], "top", f"{BOTH}\n\nab"),
        ([{"type": "text", "text": "a"}], "bottom", f"a\n\n{BOTH}"),
    ],
    ids=str,
)
def test_the_parts_of_a_content_keep_their_place(content, items, position, expected):
    """The block joins the text at its side, or becomes a part there."""
    rendered = content(
        {"role": "user", "content": items}, tools=TOOLS, tool_templates={**PLAIN, "position": position}
    )
    if isinstance(expected, list):
        expected = [{"type": "text", "text": item} if isinstance(item, str) else item for item in expected]
    assert rendered == expected


def test_a_text_part_with_more_to_say_keeps_what_it_says(content):
    """The block is in its text, its other fields stay."""
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    rendered = content({"role": "user", "content": [part]}, tools=TOOLS, tool_templates=PLAIN)
    assert rendered == [{**part, "text": f"{BOTH}\n\na"}]


def test_every_item_of_a_batch_gets_the_block(plan_of):
    """The same for all of them."""
    tool = function("f", description={"data": 'one "1"'})
    words = {"prefix": {"data": "P {{func_call_token}}"}, "suffix": ""}
    plan = plan_of("{x}", tools=[tool], tool_templates={"function_list": words}, inputs={"x": ["a", "b"]})
    assert [plan.body(sample)["messages"][0]["content"] for sample in plan.samples] == [
        'P !function_call:\n[\n{"name":"f","description":"one \\"1\\"","parameters":null}\n]\n\na',
        'P !function_call:\n[\n{"name":"f","description":"one \\"1\\"","parameters":null}\n]\n\nb',
    ]


@pytest.mark.parametrize("choice", ["auto", "none", "g"])
def test_words_about_tools_are_no_batch(plan_of, choice):
    """A job that is a batch by what the model is not shown could not be recorded."""
    listed = {"data": ["x", "y"]}
    error = refusal(
        plan_of, "Hi", tools=[function("f", description=listed), function("g")], tool_choice=choice
    )
    assert error.details["path"] == "tools/0/function/description"
    for name in ("function_list", "force_call"):
        templates = {name: {"suffix": listed}}
        error = refusal(plan_of, "Hi", tools=[function("g")], tool_choice=choice, tool_templates=templates)
        assert error.details["path"] == f"tool_templates/{name}/suffix"


def test_an_empty_variable_keeps_its_line(content):
    """It is read all the same: there is nothing in it yet, and it may learn what to say."""
    words = {"prefix": {"data": ""}, "suffix": {"data": ""}}
    assert content("Hi", tools=TOOLS, tool_templates={"function_list": words}) == f"\n{BOTH}\n\n\nHi"


def test_values_that_are_no_text_are_shown_as_json(content):
    """As everywhere in a prompt."""
    tool = function("f", description={"data": 1.5})
    words = {"prefix": {"data": True}, "suffix": {"data": 3}}
    assert content("Hi", tools=[tool], tool_templates={"function_list": words}) == (
        'true\n[\n{"name":"f","description":"1.5","parameters":null}\n]\n3\n\nHi'
    )


def test_tools_that_are_too_long_are_refused_before_they_are_sent(plan_of):
    """A short job can name a long text many times."""
    long = {"id": "v", "data": "x" * 1_000_000}
    plan = plan_of("Hi", tools=[function(f"f{at}", description=long) for at in range(100)])
    with pytest.raises(TooLarge, match="fewer words"):
        plan.body(None)


# ---- what is recorded


def test_what_was_injected_is_in_the_operation(plan_of):
    """Texts as they were sent, and in the places of Variables their ids."""
    tools = [
        function(
            "f",
            description={"id": "about", "data": "d"},
            parameters={"properties": {"a/b": {"description": {"id": "param", "data": "p"}}}},
        )
    ]
    words = {"prefix": {"id": "before", "data": "{{func_call_token}}"}, "suffix": "{{func_call_token}} S"}
    plan = plan_of("Hi", tools=tools, tool_templates={"function_list": words, "position": "bottom"})
    assert plan.tooling.injected.model_dump(mode="json") == {
        "mode": "inject",
        "call_token": "!function_call:",
        "side": "bottom",
        "block": [
            {"variable": "before", "form": "words"},
            '\n[\n{"name":"f","description":"',
            {"variable": "about", "form": "json"},
            '","parameters":{"properties":{"a/b":{"description":"',
            {"variable": "param", "form": "json"},
            '"}}}}\n]\n!function_call: S',
        ],
    }


def recorded(plan):
    return fragment(plan.draft, plan.job, plan.endpoint, [["fine"]], plan.tooling.injected)


@pytest.mark.parametrize("position", ["top", "bottom"])
@pytest.mark.parametrize("choice", ["auto", "required", "look", "none"])
def test_what_was_sent_can_be_rendered_again_from_the_tape(plan_of, position, choice):
    """Word for word, by whoever has the graph and none of the templates."""
    words = {"prefix": {"data": "P {{func_call_token}}"}, "suffix": "S {x}"}
    plan = plan_of(
        {"role": "system", "content": ["{x}", IMAGE]},
        {"role": "assistant", "content": "Well.", "tool_calls": [CALLED]},
        {"role": "tool", "content": "{x}", "tool_call_id": "c1"},
        {"role": "tool", "content": ["b", IMAGE], "tool_call_id": "c2"},
        tools=[function("look", description={"data": 'a "b" {x}'}), AUTO],
        tool_choice=choice,
        tool_templates={"function_list": words, "force_call": words, "position": position},
        inputs={"x": ["one", "two"]},
    )
    graph = fragment(plan.draft, plan.job, plan.endpoint, [["a"], ["b"]], plan.tooling.injected)
    again = Graph.model_validate_json(graph.model_dump_json())
    conversation = Conversation.of(again.operations[0], again)
    for sample in plan.samples:
        assert conversation.render(sample) == plan.body(sample)["messages"]


def test_variables_of_tools_stand_as_references_in_the_operation(plan_of):
    """In the order messages, inputs, tools, templates."""
    inner = {"type": "array", "items": {"description": {"id": "item", "data": "i"}}}
    tools = [
        function("plain", description="text"),
        function(
            "f",
            parameters={"properties": {"list": inner, "description": {"type": "string"}}},
            description={"id": "about", "data": "d", "requires_grad": True},
        ),
    ]
    templates = {
        "function_list": {"suffix": {"id": "after", "data": "s"}, "prefix": {"id": "before", "data": "p"}}
    }
    plan = plan_of("{x}", tools=tools, tool_templates=templates, inputs={"x": {"id": "in", "data": "y"}})
    graph = recorded(plan)
    (operation,) = graph.operations
    assert [(place.path, place.variable) for place in operation.positions()][1:] == [
        ("inputs/x", "in"),
        ("tools/1/function/parameters/properties/list/items/description", "item"),
        ("tools/1/function/description", "about"),
        ("tool_templates/function_list/prefix", "before"),
        ("tool_templates/function_list/suffix", "after"),
    ]
    assert operation.tools[1]["function"]["description"] == {"variable": "about"}
    assert operation.tool_templates.function_list.prefix.variable == "before"
    assert {v.id: v.role for v in graph.variables if v.id in ("item", "about", "before", "after")} == {
        "item": "description of the parameter list of the function f",
        "about": "description of the function f",
        "before": "words before the list of functions",
        "after": "words after the list of functions",
    }
    assert graph.requires_grad(operation.outputs[0])
    assert Graph.model_validate_json(graph.model_dump_json()) == graph


@pytest.mark.parametrize(
    ("choice", "paths"),
    [
        (
            "auto",
            [
                "tools/0/function/description",
                "tools/1/function/description",
                "tool_templates/function_list/prefix",
            ],
        ),
        ("f", ["tools/0/function/description", "tool_templates/force_call/prefix"]),
        ("g", ["tools/1/function/description", "tool_templates/force_call/prefix"]),
        ("none", []),
    ],
)
def test_only_what_the_model_got_to_see_is_a_position(plan_of, choice, paths):
    """Nobody could say how a text should change that was not read."""
    tools = [function(name, description={"data": name}) for name in "fg"]
    templates = {name: {"prefix": {"data": name}} for name in ("function_list", "force_call")}
    (operation,) = recorded(
        plan_of("Hi", tools=tools, tool_choice=choice, tool_templates=templates)
    ).operations
    assert [place.path for place in operation.positions()][1:] == paths


def test_words_for_tools_that_are_not_there_are_no_position(plan_of):
    """Nothing was injected."""
    templates = {"function_list": {"prefix": {"data": "x"}}}
    (operation,) = recorded(plan_of("Hi", tools=[], tool_templates=templates)).operations
    assert [place.path for place in operation.positions()] == ["messages/0/content/0"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"tools": [function("f", description={"text": "x"})]}, "tools/0/function/description"),
        ({"tools": [function("f", description={})]}, "tools/0/function/description"),
        (
            {"tools": [function("f", parameters={"$defs": {"a/b": {"description": {"data": {}}}}})]},
            "tools/0/function/parameters/$defs/a~1b/description",
        ),
    ],
    ids=str,
)
def test_a_description_that_is_no_variable_is_refused_by_its_path(plan_of, fields, path):
    """Text, or an object with `data`."""
    error = refusal(plan_of, "Hi", **fields)
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, path)


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"description": {"type": "string"}}},
        {"$defs": {"description": {"type": "string"}}},
        {"properties": {"a": {"const": {"description": {"x": 1}}}}},
        {"properties": {"a": {"enum": [{"description": {"x": 1}}]}}},
        {"default": {"description": {"x": 1}}},
        {"dependentSchemas": {"description": {"required": ["a"]}}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "dependencies": {"description": {"required": []}},
        },
        {"description": "text", "properties": {"properties": {"description": "text"}}},
    ],
    ids=str,
)
def test_what_only_looks_like_a_description_is_left_alone(content, parameters):
    """A parameter of that name, and data."""
    shown = content("", tools=[function("f", parameters=parameters)], tool_templates=PLAIN)
    assert json.loads(shown)[0]["parameters"] == parameters


# ---- modes


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, "native"),
        ({"backtalk": {"endpoint": "local"}}, "inject"),
        ({"backtalk": {"endpoint": "elsewhere"}}, "inject"),
        ({"tool_templates": {}}, "inject"),
        ({"backtalk": {"tool_mode": "inject"}}, "inject"),
        ({"backtalk": {"tool_mode": "inject", "endpoint": "openai"}, "tool_templates": PLAIN}, "inject"),
        ({"backtalk": {"tool_mode": "native", "endpoint": "local"}}, "native"),
    ],
    ids=str,
)
def test_the_mode_is_the_jobs_else_its_endpoints(plan_of, native, fields, mode):
    """Templates ask for injection; an endpoint of which nothing is said gets words."""
    plan = plan_of("Hi", tools=TOOLS, box=native, **fields)
    assert plan.tooling.mode == mode
    assert ("tools" in plan.body(None)) is (mode == "native")


def test_nothing_is_declared_by_default(plan_of):
    """So tools are injected."""
    assert plan_of("Hi", tools=TOOLS).tooling.mode == "inject"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("look", {"type": "function", "function": {"name": "look"}}),
        (
            {"type": "function", "function": {"name": "look"}},
            {"type": "function", "function": {"name": "look"}},
        ),
        ({"type": "allowed_tools", "mode": "auto"}, {"type": "allowed_tools", "mode": "auto"}),
    ],
    ids=str,
)
def test_in_native_mode_tools_go_to_the_endpoint(plan_of, choice, sent):
    """As they came; a bare name is what OpenAI does not know."""
    tools = [*TOOLS, {"type": "custom", "custom": {"name": "sh"}}]
    body = plan_of("Hi", tools=tools, tool_choice=choice, parallel_tool_calls=False, backtalk=NATIVE).body(
        None
    )
    assert list(body["tools"]) == tools
    assert body.get("tool_choice") == sent
    assert body["parallel_tool_calls"] is False
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


def test_in_native_mode_the_endpoint_gets_the_texts_of_variables(plan_of):
    """The tape has the references."""
    tool = function("f", description={"id": "v", "data": "a"}, parameters={"description": {"data": 2}})
    plan = plan_of("Hi", tools=[tool], backtalk=NATIVE)
    assert plan.body(None)["tools"][0]["function"]["description"] == "a"
    assert plan.body(None)["tools"][0]["function"]["parameters"]["description"] == "2"
    assert plan.draft.tools[0]["function"]["description"] == {"variable": "v"}
    assert (plan.tooling.injected, plan.tooling.known) == (None, None)


def test_in_native_mode_every_text_of_the_tools_is_a_position(plan_of):
    """The endpoint saw them all, whichever function was named."""
    tools = [function(name, description={"data": name}) for name in "fg"]
    graph = fragment(
        (plan := plan_of("Hi", tools=tools, tool_choice="g", backtalk=NATIVE)).draft,
        plan.job,
        "openai",
        [["x"]],
        None,
    )
    assert [place.path for place in graph.operations[0].positions()][1:] == [
        "tools/0/function/description",
        "tools/1/function/description",
    ]


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "sh"}}]}, "tools/0/type", "only functions"),
        ({"tools": [LOOK, {"type": "web_search"}]}, "tools/1/type", "tool_mode native"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice", "tool_mode native"),
        (
            {"tools": [LOOK, function("g", parameters={"type": "integre"})]},
            "tools/1/function/parameters",
            "no JSON Schema",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_put_into_words_is_refused(plan_of, fields, path, told):
    """With its path, and with a way out."""
    error = refusal(plan_of, "Hi", **fields)
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, path)
    assert told in error.message
    assert "tools" in plan_of("Hi", backtalk=NATIVE, **fields).body(None)


def test_retries_are_refused_where_no_calls_are_read(plan_of, native):
    """The endpoint of the job decides, where the job itself does not say."""
    error = refusal(plan_of, "Hi", tools=TOOLS, box=native, backtalk={"tool_retries": 1})
    assert error.details["path"] == "backtalk/tool_retries"
    assert plan_of("Hi", tools=TOOLS, box=native, backtalk={"tool_retries": 1, "tool_mode": "inject"})


# ---- what was given stays as it was


def test_nothing_touches_what_it_was_given(job_of, toolbox):
    """Neither the job nor an earlier rendering changes, however often it is rendered."""
    told = {
        "messages": [
            {"role": "user", "content": ["a", IMAGE, {"data": ["b", "c"]}]},
            {"role": "assistant", "content": None, "tool_calls": [CALLED]},
            {"role": "tool", "content": [{"type": "text", "text": "d", "x": 1}], "tool_call_id": "c1"},
            {"role": "tool", "content": "e", "tool_call_id": "c1"},
        ],
        "tools": [function("look", description={"data": "x"}, parameters={"properties": {"a": {}}})],
        "tool_templates": {"function_list": {"prefix": {"data": "p"}}, "position": "bottom"},
    }
    before = copy.deepcopy(told)
    job = CompletionJob.model_validate({"model": "m", **told})
    kept = job.model_dump_json()
    plan = Plan.of(job, "key", toolbox)
    first = plan.body(0)
    copied = copy.deepcopy(first)
    first_tools = copy.deepcopy(plan.draft.tools)
    assert plan.body(1)["messages"] != first["messages"]
    assert plan.body(0) == first == copied
    assert told == before
    assert job.model_dump_json() == kept
    assert plan.draft.tools == first_tools


def test_a_repeat_of_a_job_is_rendered_alike(plan_of):
    """Word for word, and id for id."""
    fields = {
        "tools": [function("f", description={"data": "x"})],
        "tool_templates": {"function_list": {"prefix": {"data": "y"}}},
    }
    one, other = (plan_of("Hi", **fields) for _ in range(2))
    assert one.body(None) == other.body(None)
    assert one.tooling.injected == other.tooling.injected
    assert plan_of("Hi", key="another", **fields).tooling.injected != one.tooling.injected
