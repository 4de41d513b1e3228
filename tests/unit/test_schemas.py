"""What was written once is read for ever, and the published schemas are those of the models."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from backtalk.schemas import MESSAGES, schema, write_schemas
from backtalk.wire.codec import decode, encode

ROOT = Path(__file__).parents[2]


GOLDEN = sorted(path.stem for path in (ROOT / "tests" / "data").glob("*.json"))


def test_every_kind_of_message_has_a_golden_one() -> None:
    """Those of more than one have a word behind their type."""
    assert {kind_of(name) for name in GOLDEN} == set(MESSAGES)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_message_decodes_for_ever(name) -> None:
    """A message of each kind, frozen when its version was released, is read without loss."""
    golden = (ROOT / "tests" / "data" / f"{name}.json").read_bytes()
    model, _ = MESSAGES[kind_of(name)]
    again = json.loads(encode(decode(golden, model)))
    assert contains(again, json.loads(golden))


@pytest.mark.parametrize("data", ["text", 3, 0.5, True, [1, None, 2.5, "x", False]])
def test_the_published_schema_takes_whatever_a_variable_holds(data) -> None:
    """A whole number is a number as well: no value may fit two branches of which one has to fit."""
    graph = {"variables": [{"id": "a", "data": data, "role": "score", "requires_grad": False}]}
    jsonschema.validate(graph, json.loads(schema("graph.v1")))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_message_fits_the_published_schema(name) -> None:
    """What the models read, validators in other languages take."""
    golden = json.loads((ROOT / "tests" / "data" / f"{name}.json").read_bytes())
    jsonschema.validate(golden, json.loads(schema(kind_of(name))))


def kind_of(name) -> str:
    """Return the type of a golden message: `completion.job.v1` of `completion.job.v1.tools`."""
    return name[: name.index(".v1") + len(".v1")]


def contains(whole, part) -> bool:
    """Tell whether everything in `part` stands in `whole`; a single graph may have become a list of one."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_published_schema_is_not_stale(name) -> None:
    """`make schemas` writes docs/schemas anew after a change of the models."""
    assert (ROOT / "docs" / "schemas" / f"{name}.json").read_text("utf-8") == schema(name)


def test_every_published_schema_has_a_message() -> None:
    """No schema outlives its model."""
    assert {path.stem for path in (ROOT / "docs" / "schemas").glob("*.json")} == set(MESSAGES)


def test_schemas_are_written_where_they_are_wanted(tmp_path) -> None:
    """The command makes the folder and one file for each message."""
    written = list(write_schemas(tmp_path / "schemas"))
    assert [path.name for path in written] == [f"{name}.json" for name in MESSAGES]
