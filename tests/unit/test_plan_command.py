"""`backtalk plan`: what feedback would take, told without a call."""

import json
import socket

import pytest
from fixtures.tapes import call, feedback, param, step, tape
from typer.testing import CliRunner

from backtalk.cli.main import app
from backtalk.client.batchfile import BadFile
from backtalk.wire.errors import Refused
from backtalk.wire.policy import Policy

GRAPH = tape(
    {"p": param(), "q": param(), "x": ["1", "2", "3"], "y": ["a", "b", "c"], "z": ["A", "B", "C"]},
    call("first", "p x", "y"),
    call("second", "p q y", "z"),
)
SAID = {"z": ["Too long.", "Too short.", "Too cold."]}


def run(*arguments, given=None, fails=None):
    """Run the verb; where it `fails`, return the exception that `main` prints."""
    body = json.dumps(given) if isinstance(given, dict) else given
    done = CliRunner().invoke(app, ["plan", *map(str, arguments)], input=body)
    if fails is not None:
        assert isinstance(done.exception, fails), done.output
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def rows(output):
    """Return the table by what each row is about: whether it is marked, and its numbers."""
    head, *lines = output.splitlines()
    assert head.split() == [
        "calls",
        "batch",
        "calls",
        "made",
        "one",
        "by",
        "one",
        "at",
        "once",
        "tokens,",
        "about",
    ]
    found = {}
    for line in lines:
        calls, batch, *numbers = line.removeprefix("*").split()
        found[calls, batch] = (line.startswith("*"), *(int(one.replace(",", "")) for one in numbers))
    return found


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No setting of the user's counts."""
    for name in ("BACKTALK_POLICY", "BACKTALK_BACKWARD_MODEL", "BACKTALK_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)


def test_each_choice_has_a_row_with_what_it_takes(tmp_path):
    """Calls, how many of them one after another, how many at once; the one that is asked for is marked."""
    file = tmp_path / "feedback.json"
    file.write_text(json.dumps(feedback(GRAPH, SAID, policy={"calls": "per_operation"})), "utf-8")
    found = rows(run(file))
    assert {key: row[:4] for key, row in found.items()} == {
        ("per_variable", "per_sample"): (False, 12, 2, 9),
        ("per_operation", "per_sample"): (True, 6, 2, 3),
        ("per_variable", "digest"): (False, 4, 2, 3),
        ("per_operation", "digest"): (False, 2, 2, 1),
    }
    assert all(row[4] > 250 * row[1] for row in found.values())


def test_the_standard_input_is_read():
    """As `-`."""
    assert rows(run("-", given=feedback(GRAPH, SAID)))["per_variable", "per_sample"][:2] == (True, 12)


def test_nothing_is_called(monkeypatch):
    """Neither an endpoint nor a broker hears of it."""
    with socket.create_server(("127.0.0.1", 0)) as endpoint:
        endpoint.setblocking(False)  # noqa: FBT003
        at = f"127.0.0.1:{endpoint.getsockname()[1]}"
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://{at}/v1")
        monkeypatch.setenv("BACKTALK_AMQP_URL", f"amqp://{at}/")
        assert rows(run("-", given=feedback(GRAPH, SAID)))
        with pytest.raises(BlockingIOError):
            endpoint.accept()


def test_a_summary_and_a_gate_count(tmp_path):
    """What the policy says besides counts in every row."""
    plain = rows(run("-", given=feedback(GRAPH, SAID)))
    summed = rows(run("-", given=feedback(GRAPH, SAID, policy={"summary": True})))
    assert {key: row[1] - plain[key][1] for key, row in summed.items()} == {
        ("per_variable", "per_sample"): 2,
        ("per_operation", "per_sample"): 2,
        ("per_variable", "digest"): 1,
        ("per_operation", "digest"): 1,
    }
    item = {"variable": "z", "text": "Too long.", "score": [1, 1, 0]}
    gated = rows(run("-", given=feedback(GRAPH, [item], policy={"gate": 1})))
    assert gated["per_variable", "per_sample"][1] == 4


def test_the_workers_policy_counts_where_the_message_says_nothing(monkeypatch):
    """And where it says something, that."""
    monkeypatch.setenv("BACKTALK_POLICY", '{"batch": "digest", "summary": true}')
    found = rows(run("-", given=feedback(GRAPH, SAID)))
    assert [key for key, row in found.items() if row[0]] == [("per_variable", "digest")]
    assert found["per_variable", "digest"][1] == 5
    stated = rows(run("-", given=feedback(GRAPH, SAID, policy={"summary": False, "batch": "per_sample"})))
    assert stated["per_variable", "per_sample"][:2] == (True, 12)


def test_a_budget_of_calls_does_not_hide_what_it_takes():
    """The plan is asked for in order to choose one."""
    found = rows(run("-", given=feedback(GRAPH, SAID, policy={"max_calls": 0, "max_tokens": 0})))
    assert found["per_variable", "per_sample"][1] == 12


def test_samples_have_no_digest():
    """Some samples of a batch cannot be digested, so there are no rows for it."""
    found = rows(run("-", given=feedback(GRAPH, SAID, samples=[0, 2])))
    assert {key: row[1] for key, row in found.items()} == {
        ("per_variable", "per_sample"): 8,
        ("per_operation", "per_sample"): 4,
    }


def test_a_function_is_asked_about_only_where_a_model_is_named(monkeypatch):
    """It has none of its own."""
    function = step(
        "function", "f", "p", "x", name="f", description="", parameters=["text"], transmit="model"
    )
    said = feedback(tape({"p": param()}, function), {"x": "Too long."})
    assert rows(run("-", given=said))["per_variable", "per_sample"][1] == 0
    assert rows(run("-", given={**said, "model": "m"}))["per_variable", "per_sample"][1] == 1
    monkeypatch.setenv("BACKTALK_BACKWARD_MODEL", "m")
    assert rows(run("-", given=said))["per_variable", "per_sample"][1] == 1


def test_the_fields_of_a_policy_can_be_printed():
    """Each with its default and what it goes with; no file is needed."""
    told = run("--policies")
    assert all(f"  {name} " in told for name in Policy.model_fields)
    assert "prompt_tokens" in told
    assert "at most half of prompt_tokens" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{", "is not valid JSON"),
        ("[]", "object"),
        ("{}", "graph: is missing"),
        (feedback(GRAPH, {"nobody": "x"}), "feedback/0/variable: 'nobody'"),
        (feedback(GRAPH, SAID, policy={"calls": "each"}), "policy/calls"),
        (feedback(GRAPH, SAID, policy={"summary_characters": 200}), "policy/summary_characters"),
        (feedback(GRAPH, SAID, samples=[0, 2], policy={"batch": "digest"}), "samples"),
        (feedback(GRAPH, SAID, samples=[0, 9]), "samples: ends at 9"),
    ],
)
def test_what_is_wrong_with_the_feedback_is_told(given, told):
    """As a worker would answer it."""
    assert told in run("-", given=given, fails=Refused)


def test_a_wrong_environment_is_told(monkeypatch):
    """With the name of the variable."""
    monkeypatch.setenv("BACKTALK_POLICY", '{"batch": "all"}')
    assert "BACKTALK_POLICY" in run("-", given=feedback(GRAPH, SAID), fails=BadFile)


@pytest.mark.parametrize(
    ("arguments", "told"), [(("no-such-file.json",), "no-such-file.json"), ((), "name a file")]
)
def test_a_missing_file_is_a_usage_error(arguments, told):
    """So is none at all."""
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert done.exit_code == 2
    assert told in done.output
