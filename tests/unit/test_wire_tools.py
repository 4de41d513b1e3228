"""Tools as the tape holds them: references in the places of texts, and what was injected."""

import copy

import pytest
from pydantic import ValidationError

from backtalk.wire.codec import validate
from backtalk.wire.errors import Refused
from backtalk.wire.tools import (
    Injected,
    Insert,
    RecordedTemplates,
    RecordedWords,
    Rewritten,
    Turn,
    VariableRef,
    map_descriptions,
    refs_in,
)


def ref(id):
    return {"variable": id}


def function(**fields):
    return {"type": "function", "function": {"name": "f", **fields}}


TOOLS = [
    function(description=ref("a"), parameters={"description": ref("b"), "type": "object"}),
    function(description="text"),
    {"type": "custom", "custom": {"description": ref("x")}},
    function(
        parameters={
            "properties": {
                "plain": {"type": "string", "description": "text"},
                "a/b~": {"description": ref("c"), "items": {"description": ref("d")}},
                "description": {"description": ref("e")},
                "properties": {"properties": {"description": {"description": ref("f")}}},
            },
            "anyOf": [{"description": ref("g")}, True, {"not": {"description": ref("h")}}],
            "$defs": {"description": {"description": ref("i")}},
            "definitions": {"description": {"type": "string"}},
            "dependentSchemas": {"description": {"required": ["x"]}},
            "dependencies": {"description": {"required": ["x"]}},
            "patternProperties": {"description": {"if": {"description": ref("j")}}},
            "additionalProperties": {"description": ref("k")},
            "const": {"description": {"variable": "x"}},
            "enum": [{"description": {"odd": 1}}],
            "default": {"description": 5},
            "examples": [{"description": ref("x")}],
        }
    ),
]
PARAMETERS = "tools/3/function/parameters"
FOUND = [
    ("tools/0/function/description", "a"),
    ("tools/0/function/parameters/description", "b"),
    (f"{PARAMETERS}/properties/a~1b~0/description", "c"),
    (f"{PARAMETERS}/properties/a~1b~0/items/description", "d"),
    (f"{PARAMETERS}/properties/description/description", "e"),
    (f"{PARAMETERS}/properties/properties/properties/description/description", "f"),
    (f"{PARAMETERS}/anyOf/0/description", "g"),
    (f"{PARAMETERS}/anyOf/2/not/description", "h"),
    (f"{PARAMETERS}/$defs/description/description", "i"),
    (f"{PARAMETERS}/patternProperties/description/if/description", "j"),
    (f"{PARAMETERS}/additionalProperties/description", "k"),
]


def test_references_are_found_wherever_a_schema_describes_itself():
    """Not where a parameter has that name, and not in data."""
    assert refs_in(TOOLS) == FOUND


def test_every_reference_can_be_replaced_by_its_text():
    """The tools that were given stay as they were."""
    before = copy.deepcopy(TOOLS)
    made = map_descriptions(TOOLS, lambda path, found: f"{path} {found['variable']}")
    assert before == TOOLS
    assert refs_in(made) == []
    assert made[0]["function"]["description"] == "tools/0/function/description a"
    assert made[3]["function"]["parameters"]["const"] == {"description": {"variable": "x"}}
    assert made[3]["function"]["parameters"]["definitions"] == {"description": {"type": "string"}}
    assert made[1:3] == tuple(TOOLS[1:3])


@pytest.mark.parametrize(
    "odd", [{}, {"type": "function"}, {"function": None}, {"function": "f"}, {"function": []}], ids=str
)
def test_a_tool_without_a_function_describes_nothing(odd):
    """It belongs to an endpoint."""
    assert map_descriptions([odd], pytest.fail) == (odd,)


@pytest.mark.parametrize(
    "found",
    [{}, {"data": "x"}, {"variable": ""}, {"variable": 5}, {"variable": None}, {"variable": "a", "more": 1}],
    ids=str,
)
def test_a_description_that_is_no_reference_is_told_by_its_path(found):
    """The tape has nothing else in such a place."""
    with pytest.raises(ValueError, match=r"^tools/1/function/parameters/items/description: expected text"):
        refs_in([function(), function(parameters={"items": {"description": found}})])


@pytest.mark.parametrize("depth", [10, 150])
def test_a_schema_may_be_nested_as_deeply_as_json(depth):
    """It came through the wire, which has the bound."""
    schema = {"description": ref("v")}
    for _ in range(depth):
        schema = {"items": schema}
    assert [id for _, id in refs_in([function(parameters=schema)])] == ["v"]


# ---- templates


def test_references_in_templates_have_paths_as_well():
    """Each by its part and its side, in this order."""
    words = RecordedWords(prefix=VariableRef(variable="a"), suffix=VariableRef(variable="b"))
    templates = RecordedTemplates(
        force_call=words, function_list=RecordedWords(prefix="text", suffix=VariableRef(variable="c"))
    )
    assert list(templates.refs()) == [
        ("tool_templates/function_list/suffix", "c"),
        ("tool_templates/force_call/prefix", "a"),
        ("tool_templates/force_call/suffix", "b"),
    ]
    assert list(RecordedTemplates().refs()) == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {
            "function_list": {"prefix": "", "suffix": {"variable": "v"}},
            "force_call": {},
            "position": "bottom",
        },
    ],
    ids=str,
)
def test_templates_stand_in_json_as_they_are(document):
    """An empty text is one, and what is absent stays out."""
    made = validate(document, RecordedTemplates)
    assert made.model_dump(mode="json") == document
    assert RecordedTemplates.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"function_list": {"prefix": {"data": "x"}}}, "function_list/prefix/variable"),
        ({"function_list": {"prefix": 5}}, "function_list/prefix"),
        ({"function_list": {"prefix": {"variable": ""}}}, "function_list/prefix/variable"),
        ({"position": "left"}, "position"),
        ({"odd": 1}, "odd"),
    ],
    ids=str,
)
def test_templates_of_another_form_are_refused_by_path(document, path):
    """A graph may come from anywhere."""
    with pytest.raises(Refused) as caught:
        validate(document, RecordedTemplates)
    assert path in {found["path"] for found in caught.value.error.details["problems"]}


# ---- what was injected

WHOLE = {
    "mode": "inject",
    "call_token": "!call:",
    "side": "bottom",
    "block": [
        "text",
        {"variable": "a", "form": "json"},
        "",
        {"variable": "b", "form": "words"},
        {"variable": "a", "form": "text"},
    ],
    "messages": [
        {"message": 1, "role": "user", "content": "", "before": "<", "after": ">", "joined": True},
        {"message": 2},
    ],
    "turns": [
        {"sample": 0, "choice": 1, "reply": "x", "told": "y"},
        {"choice": 0, "reply": "", "told": ""},
    ],
}


@pytest.mark.parametrize("document", [WHOLE, {"mode": "native", "side": "top"}], ids=["whole", "least"])
def test_an_injection_stands_in_json_as_it_was(document):
    """Nothing is lost and nothing added."""
    made = validate(document, Injected)
    assert made.model_dump(mode="json") == document
    assert Injected.model_validate_json(made.model_dump_json()) == made


def test_an_injection_knows_which_variables_it_shows():
    """Those of its block."""
    assert validate(WHOLE, Injected).shown == {"a": 1, "b": 3}
    assert Injected(mode="inject").shown == {}


def test_a_turn_is_two_messages():
    """What the model had said, and what it was told."""
    assert Turn(choice=0, reply="x", told="y").messages() == [
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "y"},
    ]
    assert Turn(choice=0, reply="", told="y").messages() == [{"role": "user", "content": "y"}]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "mode"),
        ({"mode": "both"}, "mode"),
        ({"mode": "inject", "side": "left"}, "side"),
        ({"mode": "inject", "odd": 1}, "odd"),
        ({"mode": "inject", "block": "text"}, "block"),
        ({"mode": "inject", "block": [5]}, "block/0"),
        ({"mode": "inject", "block": ["a", {"form": "json"}]}, "block/1/variable"),
        ({"mode": "inject", "block": [{"variable": "a", "form": "odd"}]}, "block/0/form"),
        ({"mode": "inject", "messages": [{"message": -1}]}, "messages/0/message"),
        ({"mode": "inject", "messages": [{"message": 0, "role": "boss"}]}, "messages/0/role"),
        ({"mode": "inject", "turns": [{"choice": 0, "reply": None, "told": ""}]}, "turns/0/reply"),
    ],
    ids=str,
)
def test_an_injection_of_another_form_is_refused_by_path(document, path):
    """A graph may come from anywhere."""
    with pytest.raises(Refused) as caught:
        validate(document, Injected)
    assert path in {found["path"] for found in caught.value.error.details["problems"]}


@pytest.mark.parametrize(
    "entry",
    [Injected(mode="inject"), Insert(variable="v"), Rewritten(message=0), Turn(choice=0, reply="", told="")],
    ids=str,
)
def test_what_was_recorded_is_frozen(entry):
    """It cannot be assigned anew."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(entry, next(iter(type(entry).model_fields)), None)
