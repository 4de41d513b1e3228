"""Schemas of functions: what they say of arguments, and that no schema holds the worker up."""

import json
import re
import subprocess
import sys
import time

import pytest

from forward_worker.tools.schema import schema_of

# time may run out inside the collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
# no engine that tries everything ends with this in a second, and each letter more doubles it
SLOW, LETTERS = "^(a+)+$", f"{'a' * 26}!"


def schema(document):
    return schema_of(json.dumps(document))


def problem(document, arguments):
    return schema(document).problem(arguments)


def outcome(document, arguments):
    """Return the problem, or why there is no schema."""
    try:
        return problem(document, arguments)
    except ValueError as error:
        return str(error)


WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1},
        "days": {"type": "integer", "minimum": 1},
        "unit": {"enum": ["C", "F"]},
        "zip": {"pattern": "^[0-9]{5}$"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "a/b~c": {"type": "object", "properties": {"d": {"const": 1}}},
    },
    "patternProperties": {"^x-": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "arguments",
    [
        {"city": "Rome"},
        {"city": "Rome", "days": 3, "unit": "C", "zip": "12345", "tags": ["a", "b"], "x-a": "b"},
        {"city": "ü", "days": 1.0, "a/b~c": {"d": 1.0}},
    ],
    ids=str,
)
def test_arguments_that_fit_have_no_problem(arguments):
    """All that the schema asks for, and nothing it forbids."""
    assert problem(WEATHER, arguments) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "'city' is a required property"),
        ({"city": ""}, "city: "),
        ({"city": 5}, "city: 5 is not of type 'string'"),
        ({"city": "x", "days": "3"}, "days: '3' is not of type 'integer'"),
        ({"city": "x", "days": 0}, "days: 0 is less than the minimum of 1"),
        ({"city": "x", "days": 1.5}, "days: "),
        ({"city": "x", "unit": "K"}, "unit: 'K' is not one of"),
        ({"city": "x", "zip": "123456"}, "zip: '123456' does not match"),
        ({"city": "x", "tags": ["a", 1]}, "tags/1: 1 is not of type 'string'"),
        ({"city": "x", "tags": ["a", "a"]}, "has non-unique"),
        ({"city": "x", "other": 1}, "'other'"),
        ({"city": "x", "x-a": 1}, "x-a: 1 is not of type 'string'"),
        ({"city": "x", "a/b~c": {"d": 2}}, "a~1b~0c/d: 1 was expected"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_told_by_their_path(arguments, told):
    """In a sentence that the model can use."""
    assert told in problem(WEATHER, arguments)


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, 1.0], False),
        ([1, True], True),
        ([0, False, "0", None, "", [], {}], True),
        ([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], False),
        ([[1], [1.0]], False),
        ([[1, 2], [2, 1]], True),
        (["1", 1], True),
    ],
    ids=str,
)
def test_items_are_equal_as_json_has_it(items, unique):
    """Whatever the order of keys, and however a number is written."""
    found = problem({"properties": {"x": {"uniqueItems": True}}}, {"x": items})
    assert (found is None) is unique


def test_what_is_told_is_short():
    """A model may have written a novel."""
    assert len(problem({"properties": {"x": {"type": "integer"}}}, {"x": "y" * 100_000})) < 400


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"type": "integre"}, "type: "),
        ({"type": 5}, "type: "),
        ({"properties": []}, "properties: "),
        ({"properties": {"a/b": 5}}, "properties/a~1b: "),
        ({"required": "x"}, "required: "),
        ({"minLength": -1}, "minLength: "),
        ({"enum": 5}, "enum: "),
        ({"$schema": 5}, "$schema: "),
        ({"$schema": DRAFT_7, "items": 5}, "items: "),
        ({"$ref": 5}, "$ref: "),
    ],
    ids=str,
)
def test_what_is_no_schema_is_told(document, told):
    """With the path of what is wrong in it."""
    with pytest.raises(ValueError, match=re.escape(told)):
        schema(document)


@pytest.mark.parametrize(
    "document",
    [{}, {"x-odd": {"type": 5}}, {"$schema": "https://example.org/mine"}, {"format": "no-such"}, {"$id": ""}],
)
def test_a_schema_may_say_what_nobody_knows(document):
    """It counts for nothing."""
    assert problem(document, {"a": 1}) is None


@pytest.mark.parametrize(
    ("document", "arguments", "fits"),
    [
        (
            {
                "$schema": "http://json-schema.org/draft-04/schema#",
                "properties": {"x": {"maximum": 1, "exclusiveMaximum": True}},
            },
            {"x": 1},
            False,
        ),
        ({"$schema": DRAFT_7, "properties": {"x": {"items": [{"type": "string"}]}}}, {"x": [1]}, False),
        ({"$schema": DRAFT_7, "dependencies": {"a": ["b"]}}, {"a": 1}, False),
        (
            {"$schema": "http://json-schema.org/draft-03/schema#", "properties": {"x": {"required": True}}},
            {},
            False,
        ),
        ({"properties": {"x": {"prefixItems": [{"type": "string"}]}}}, {"x": [1]}, False),
        ({"dependencies": {"a": ["b"]}}, {"a": 1}, True),
    ],
    ids=str,
)
def test_a_schema_is_read_by_the_draft_it_names(document, arguments, fits):
    """The newest one where it names none."""
    assert (problem(document, arguments) is None) is fits


def test_references_inside_of_a_schema_are_followed():
    """To definitions, to anchors, and to itself."""
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "properties": {"next": {"$ref": "#node"}, "value": {"$ref": "#/$defs/value"}},
                "$anchor": "node",
            },
            "value": {"type": "integer"},
        },
    }
    assert problem(tree, {"next": {"next": {"value": 1}}}) is None
    assert (
        problem(tree, {"next": {"next": {"value": "x"}}}) == "next/next/value: 'x' is not of type 'integer'"
    )


@pytest.mark.parametrize(
    "ref",
    [
        "http://127.0.0.1:9/x.json",
        "file:///etc/passwd",
        "other.json",
        "#/$defs/gone",
        "#gone",
        "urn:x",
    ],
)
def test_references_to_the_outside_are_not_followed(ref, monkeypatch):
    """No address is fetched; what is not in the schema is told."""
    monkeypatch.setattr("socket.socket", None)
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert problem({"$ref": ref}, {}).startswith("the schema refers to ")
    assert problem({"properties": {"x": {"$schema": DRAFT_7, "$ref": ref}}}, {"x": 1}).startswith(
        "the schema refers to "
    )


def test_the_same_schema_is_made_once():
    """A batch, and the next job, find it ready."""
    assert schema(WEATHER) is schema(WEATHER)


# ---- what would take for ever


def dag(depth, make):
    """Return definitions of which each refers twice to the next."""
    nodes = {str(at): make({"$ref": f"#/$defs/{at + 1}"}) for at in range(depth)}
    return {"$ref": "#/$defs/0", "$defs": {**nodes, str(depth): {}}}


HOSTILE = {
    "a pattern": ({"properties": {"x": {"pattern": SLOW}}}, {"x": LETTERS}),
    "patterns of properties": ({"patternProperties": {SLOW: {}}}, {LETTERS: 1}),
    "patterns beside forbidden properties": (
        {"additionalProperties": False, "patternProperties": {SLOW: {}}},
        {LETTERS: 1},
    ),
    "patterns beside unevaluated properties": (
        {"unevaluatedProperties": False, "patternProperties": {SLOW: {}}},
        {LETTERS: 1},
    ),
    "patterns of names": ({"propertyNames": {"pattern": SLOW}}, {LETTERS: 1}),
    "a pattern in a draft of its own": (
        {"properties": {"x": {"$schema": DRAFT_7, "pattern": SLOW}}},
        {"x": LETTERS},
    ),
    "a pattern behind a reference to the whole": (
        {"$schema": DRAFT_2020, "properties": {"x": {"$ref": "#"}, "y": {"pattern": SLOW}}},
        {"x": {"y": LETTERS}},
    ),
    "many patterns": (
        {"properties": {"x": {"allOf": [{"pattern": f"{SLOW}{'b?' * at}"} for at in range(50)]}}},
        {"x": LETTERS},
    ),
    "a chain that doubles": (dag(40, lambda ref: {"allOf": [ref, ref]}), {}),
    "a chain that doubles where one must fit": (dag(40, lambda ref: {"oneOf": [ref, ref]}), {}),
    "a chain that doubles in a draft of its own": (
        {
            "properties": {"x": {"$ref": "#/$defs/0"}},
            "$defs": {
                **{
                    str(at): {"$schema": DRAFT_7, "allOf": [{"$ref": f"#/$defs/{at + 1}"}] * 2}
                    for at in range(17)
                },
                "17": {},
            },
        },
        {"x": 1},
    ),
    "a chain of dependent schemas": (
        {"unevaluatedProperties": False, **dag(17, lambda ref: {"dependentSchemas": {"a": ref, "b": ref}})},
        {"a": 1, "b": 2},
    ),
    "itself": ({"$ref": "#"}, {}),
    "itself, in a circle": (
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/a"}]}}},
        {},
    ),
    "itself, by name": ({"$dynamicRef": "#x", "$dynamicAnchor": "x"}, {}),
    "itself, by the older name": (
        {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "$recursiveRef": "#",
            "$recursiveAnchor": True,
        },
        {},
    ),
    "a long list": (
        {"properties": {"x": {"contains": {"const": 1}, "minContains": 3}}},
        {"x": [0] * 100_000},
    ),
    "a long list without repeats": (
        {"properties": {"x": {"uniqueItems": True}}},
        {"x": list(range(100_000))},
    ),
    "an odd number": ({"properties": {"x": {"multipleOf": 1e-320}}}, {"x": 10**4000}),
    "no number at all": ({"properties": {"x": {"multipleOf": 0.1, "minimum": 1e308}}}, {"x": True}),
    "an address that is none": ({"$id": "http://[bad", "$ref": "x"}, {}),
    "types of the oldest draft": (
        {
            "$schema": "http://json-schema.org/draft-03/schema#",
            "disallow": [{"type": "odd"}],
            "extends": [{}],
        },
        {},
    ),
}


@pytest.mark.parametrize(("document", "arguments"), HOSTILE.values(), ids=HOSTILE)
def test_no_schema_holds_the_worker_up(document, arguments):
    """Each is done with, or given up, within a second of processor time; nothing is raised but a refusal."""
    began = time.process_time()
    found = outcome(document, arguments)
    assert found is None or isinstance(found, str)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i)" + "[\\x00-\\uffff]" * 400,
        "|".join(map(str, range(50_000))),
        "(" * 5_000,
        "[[" * 500,
        "a{1,65000}" * 100,
        "(?<=a{1,9}b{1,9})c",
    ],
    ids=["large sets", "alternatives", "groups", "sets", "repeats", "behind"],
)
def test_no_pattern_takes_long_to_be_understood(pattern):
    """Also before it is used; it is refused, or it works."""
    began = time.process_time()
    found = outcome({"properties": {"x": {"pattern": pattern}}}, {"x": "a" * 10_000})
    assert found is None or isinstance(found, str)
    assert time.process_time() - began < 2


# with all the memory of a machine it would be the machine that ends
GREEDY = """
import resource
from forward_worker.tools.schema import schema_of
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    print(schema_of('{"properties":{"x":{"pattern":"(?:(?:a{1000}){1000}){1000}"}}}').problem({"x": "a"}))
except ValueError as error:
    print(error)
"""


def test_no_pattern_takes_the_memory_of_the_worker():
    """A few letters can ask for millions of repeats."""
    command = [sys.executable, "-c", GREEDY]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert "MemoryError" not in done.stdout
    assert done.stdout.strip() not in ("", "None")


@pytest.mark.parametrize("pattern", ["^\\p{L}+$", "(?<year>\\d{4})", "^[^]$", "\\cA", "("])
def test_a_pattern_that_python_cannot_read_is_not_checked(pattern):
    """JSON Schema has the patterns of ECMAScript; all else of the schema holds."""
    document = {
        "properties": {"x": {"pattern": pattern, "maxLength": 3}},
        "patternProperties": {pattern: {"type": "null"}},
        "required": ["x"],
    }
    assert problem(document, {"x": "abc"}) is None
    assert "too long" in problem(document, {"x": "abcd"})


def test_a_parameter_may_be_called_pattern():
    """It is a name there, and no pattern."""
    document = {"properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}
    assert problem(document, {"pattern": "("}) is None
    assert problem(document, {}) is not None
