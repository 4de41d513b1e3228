"""The AsyncAPI document is that of the models, the topology and the golden messages."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from backtalk.asyncapi import NoExamples, as_yaml, document, read_examples
from backtalk.cli.main import app
from backtalk.schemas import MESSAGES
from backtalk.transport.topology import Names, reply_queue, topology
from backtalk.wire.kinds import BACKWARD, FORWARD

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
NAMES = Names("backtalk")
DECLARED = topology(NAMES)
MADE = document(NAMES, read_examples(DATA))
MESSAGE = MADE["components"]["messages"]
SHOWN = [
    pytest.param(kind, example, id=example["name"])
    for kind, message in MESSAGE.items()
    for example in message["examples"]
]


def test_the_published_document_is_not_stale():
    """`make schemas` writes docs/asyncapi.yaml anew after a change of models, topology or golden messages."""
    assert (ROOT / "docs" / "asyncapi.yaml").read_text("utf-8") == as_yaml(MADE)


def test_the_text_says_what_was_made():
    """Nothing is lost between the document and its YAML."""
    assert yaml.safe_load(as_yaml(MADE)) == MADE


def test_the_text_is_the_same_each_time():
    """Order comes from the code, never from hashes."""
    assert as_yaml(document(NAMES, read_examples(DATA))) == as_yaml(MADE)


def test_the_topology_stands_in_it_whole():
    """Who declares from the document declares what the workers declare."""
    assert MADE["x-topology"] == json.loads(json.dumps(asdict(DECLARED)))


@pytest.mark.parametrize("name", ["forward", "backward", "forward.dead", "backward.dead", "results.unrouted"])
def test_a_channel_of_a_queue_has_its_arguments(name):
    """The broker compares them: one that is missing closes the channel of whoever declares the queue."""
    channel = MADE["channels"][name]
    queue, _ = DECLARED.of(channel["address"])
    bound = channel["bindings"]["amqp"]
    assert (bound["queue"]["name"], bound["x-arguments"]) == (queue.name, dict(queue.arguments))
    assert bound["x-arguments"]["x-queue-type"] == "quorum"


@pytest.mark.parametrize(
    ("name", "exchange"),
    [("jobs.forward", "jobs"), ("jobs.backward", "jobs"), ("results", "results"), ("control", "control")],
)
def test_a_channel_of_an_exchange_has_its_kind_and_arguments(name, exchange):
    """An exchange is declared as the workers declare it."""
    (declared,) = (one for one in DECLARED.exchanges if one.name == f"backtalk.{exchange}")
    bound = MADE["channels"][name]["bindings"]["amqp"]
    assert bound["exchange"]["name"] == declared.name
    assert bound["exchange"]["type"] == declared.kind
    assert bound.get("x-arguments", {}) == declared.arguments


def test_the_queue_of_a_caller_has_the_arguments_that_the_client_declares():
    """Two callers that share a queue of replies agree on it, whichever language they speak."""
    bound = MADE["channels"]["replies"]["bindings"]["amqp"]
    assert bound["x-arguments"] == reply_queue(NAMES, "any", lasting=False).arguments


@pytest.mark.parametrize("kind", [FORWARD, BACKWARD], ids=lambda kind: kind.role)
def test_every_request_has_a_reply_to_the_address_that_it_names(kind):
    """Both ways in, by queue and by exchange, lead to the same answers."""
    channel = f"#/channels/{kind.role}/messages/{kind.request_type}"
    asked = [one for one in MADE["operations"].values() if {"$ref": channel} in one["messages"]]
    assert [one["action"] for one in asked] == ["receive"]
    (reply,) = (one["reply"] for one in asked)
    assert reply["address"]["location"] == "$message.header#/reply_to"
    assert {"$ref": f"#/channels/replies/messages/{kind.answer_type}"} in reply["messages"]
    exchanged = [
        one for one in MADE["operations"].values() if one["channel"]["$ref"].endswith(f"jobs.{kind.role}")
    ]
    assert [one["reply"] for one in exchanged] == [reply]


def test_every_kind_of_message_is_published_or_part_of_one():
    """A graph travels in results and in feedback only."""
    kinds = {name for name in MESSAGE if not name.startswith("dead.")}
    assert set(MESSAGES) - kinds == {"graph.v1"}
    assert len(MADE["components"]["schemas"]["Graph"]["examples"]) == len(list(DATA.glob("graph.v1*.json")))


def test_the_examples_are_the_golden_messages():
    """All of them, and unchanged."""
    shown = {one["name"]: one["payload"] for message in MESSAGE.values() for one in message["examples"]}
    shown |= dict(
        zip(
            sorted(path.stem for path in DATA.glob("graph.v1*.json")),
            MADE["components"]["schemas"]["Graph"]["examples"],
            strict=True,
        )
    )
    golden = {path.stem: json.loads(path.read_bytes()) for path in DATA.glob("*.json")}
    assert {name: body for name, body in shown.items() if not name.startswith("dead.")} == golden


@pytest.mark.parametrize(("kind", "example"), SHOWN)
def test_an_example_fits_its_schemas(kind, example):
    """In the draft of JSON Schema that AsyncAPI builds on; headers too."""
    draft = "http://json-schema.org/draft-07/schema#"
    for part in ("payload", "headers"):
        schema = {**MESSAGE[kind][part], "components": MADE["components"], "$schema": draft}
        if "$ref" in schema:
            schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
        jsonschema.Draft7Validator(schema).validate(example[part])


def test_a_schema_says_no_word_of_a_later_draft():
    """`prefixItems` and `$defs` mean nothing to a reader of draft 7, which would let everything pass."""
    text = json.dumps(MADE["components"])
    assert not [word for word in ("prefixItems", "$defs", '"discriminator": {') if word in text]


def test_a_deployment_has_a_document_of_its_own(tmp_path):
    """The namespace is in the name of every queue and exchange."""
    out = tmp_path / "new" / "staging.yaml"
    options = ["asyncapi", "--namespace", "staging", "--out", str(out), "--examples", str(DATA)]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    text = out.read_text("utf-8")
    assert yaml.safe_load(text)["channels"]["forward"]["address"] == "staging.forward"
    assert "backtalk.forward" not in text


def test_a_folder_without_golden_messages_is_told(tmp_path):
    """An installed package has none: the remedy is said."""
    with pytest.raises(NoExamples, match="tests/data"):
        read_examples(tmp_path)
