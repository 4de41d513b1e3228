"""What a job says about its tools: which of them the model should call, and in which words."""

import pytest

from backtalk.wire.choice import Choice, ToolTemplates, Words, check_tools, choice_of, names_of
from backtalk.wire.codec import validate
from backtalk.wire.errors import Refused


def function(name, **fields):
    return {"type": "function", "function": {"name": name, **fields}}


def named(name):
    return {"type": "function", "function": {"name": name}}


TOOLS = [
    function("look"),
    function("auto"),
    {"function": {"name": "untyped"}},
    {"type": "custom", "custom": {"name": "sh"}},
]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, Choice("auto")),
        ("auto", Choice("auto")),
        ("none", Choice("none")),
        ("required", Choice("required")),
        ("look", Choice("function", "look")),
        ("untyped", Choice("function", "untyped")),
        (named("look"), Choice("function", "look")),
        (named("auto"), Choice("function", "auto")),
        ({**named("look"), "more": 1}, Choice("function", "look")),
        ({"type": "allowed_tools", "allowed_tools": {}}, Choice("other")),
        ({"type": "custom", "custom": {"name": "sh"}}, Choice("other")),
        ({}, Choice("other")),
    ],
    ids=str,
)
def test_a_choice_is_a_word_or_a_function(said, meant):
    """The reserved words win over functions of their name."""
    assert choice_of(TOOLS, said) == meant


@pytest.mark.parametrize(
    "said",
    [
        "nobody",
        "",
        "sh",
        "Auto",
        named("nobody"),
        named(None),
        {"type": "function"},
        {"type": "function", "function": "look"},
        5,
        True,
        [],
        ["look"],
    ],
    ids=str,
)
def test_a_choice_of_no_function_lists_those_that_are(said):
    """The names, and the words."""
    with pytest.raises(
        ValueError,
        match=r"^tool_choice: .*known are look, auto, untyped, and the words auto, none, required$",
    ):
        choice_of(TOOLS, said)


@pytest.mark.parametrize("said", [None, "auto", "none"])
def test_without_tools_none_is_called(said):
    """There is nothing to choose from, and nothing was asked for."""
    assert choice_of([], said) == Choice("none")


@pytest.mark.parametrize("said", ["required", "look", named("look"), {"type": "allowed_tools"}])
def test_without_tools_none_can_be_demanded(said):
    """The sender forgot them."""
    with pytest.raises(ValueError, match="add `tools`"):
        choice_of([], said)


def test_only_functions_have_names_that_can_be_called():
    """Whatever else a tool of another kind holds."""
    odd = [
        {"type": "custom", "function": {}},
        {"type": "custom", "function": {"name": "x"}},
        {"type": "web_search"},
    ]
    assert names_of([*odd, *TOOLS]) == ["look", "auto", "untyped"]
    with pytest.raises(ValueError, match="names no function"):
        choice_of(odd, "x")


@pytest.mark.parametrize(
    "tools",
    [
        [],
        TOOLS,
        [function("f", parameters=None, description=None, strict=True)],
        [{"type": "custom"}, {"type": "custom"}, {"type": "web_search", "function": 5}],
        [function("f"), {"type": "custom", "function": {"name": "f"}}],
    ],
    ids=str,
)
def test_tools_need_a_name_and_no_more(tools):
    """What is no function is the endpoint's business."""
    check_tools(tools)


@pytest.mark.parametrize(
    ("tool", "path"),
    [
        ({"type": "function"}, "tools/1/function"),
        ({}, "tools/1/function"),
        ({"function": []}, "tools/1/function"),
        ({"function": {}}, "tools/1/function/name"),
        ({"function": {"name": ""}}, "tools/1/function/name"),
        ({"function": {"name": 5}}, "tools/1/function/name"),
        (function("look"), "tools/1/function/name"),
        (function("f", parameters=[]), "tools/1/function/parameters"),
        (function("f", parameters="{}"), "tools/1/function/parameters"),
    ],
    ids=str,
)
def test_a_function_that_cannot_be_called_is_refused_by_its_path(tool, path):
    """Also one whose name stands twice."""
    with pytest.raises(ValueError, match=f"^{path}: "):
        check_tools([function("look"), tool])


# ---- templates


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"function_list": {"prefix": "a", "suffix": ""}, "force_call": {"prefix": "c"}, "position": "bottom"},
        {"force_call": {"suffix": {"data": ["a", 1, None], "id": "v", "requires_grad": True}}},
    ],
    ids=str,
)
def test_templates_stand_in_json_as_they_were_sent(document):
    """What was left out stays out, and an empty text is a text."""
    told = validate(document, ToolTemplates).model_dump(mode="json")
    assert told == document
    assert validate(told, ToolTemplates) == validate(document, ToolTemplates)


def test_null_is_the_same_as_nothing():
    """Each part by itself."""
    nothing = {"function_list": None, "force_call": {"prefix": None, "suffix": None}, "position": None}
    assert validate(nothing, ToolTemplates) == ToolTemplates(force_call=Words())


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], "body"),
        ({"odd": 1}, "odd"),
        ({"position": "middle"}, "position"),
        ({"position": ""}, "position"),
        ({"function_list": "x"}, "function_list"),
        ({"function_list": {"odd": 1}}, "function_list/odd"),
        ({"function_list": {"prefix": 5}}, "function_list/prefix"),
        ({"function_list": {"prefix": ["x"]}}, "function_list/prefix"),
        ({"force_call": {"suffix": {"text": "x"}}}, "force_call/suffix/data"),
        ({"force_call": {"suffix": {"data": None}}}, "force_call/suffix/data"),
        ({"force_call": {"prefix": {"data": "x", "producer": "p"}}}, "force_call/prefix/id"),
    ],
    ids=str,
)
def test_templates_of_another_form_are_refused_by_path(document, path):
    """Each field is known, and each text a text or a Variable."""
    with pytest.raises(Refused) as caught:
        validate(document, ToolTemplates)
    assert path in {found["path"] for found in caught.value.error.details["problems"]}
