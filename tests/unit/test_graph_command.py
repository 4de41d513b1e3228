"""`backtalk graph`: from the JSON that people have to a drawing."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backtalk.cli.main import app
from backtalk.client.batchfile import BadFile
from backtalk.wire.errors import Refused

DATA = Path(__file__).parents[1] / "data"
GRAPH = json.loads((DATA / "graph.v1.json").read_bytes())
GRADIENTS = json.loads((DATA / "gradients.v1.json").read_bytes())


def run(*arguments, given=None, fails=None):
    """Run the verb; where it `fails`, return the exception that `main` prints."""
    done = CliRunner().invoke(app, ["graph", *map(str, arguments)], input=given)
    if fails is not None:
        assert isinstance(done.exception, fails), done.output
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", ["graph.v1", "completion.result.v1", "feedback.v1"])
def test_a_graph_is_found_wherever_it_stands(name, tmp_path):
    """In a graph, in a result, and in the fragments of a feedback body."""
    out = tmp_path / "graph.dot"
    assert run(DATA / f"{name}.json", "--out", out).strip() == str(out)
    assert "You are a helpful assistant." in out.read_text("utf-8")


def test_gradients_stand_in_the_same_file_or_a_second(tmp_path):
    """Either way they are drawn."""
    out = tmp_path / "graph.dot"
    both = json.dumps({"graph": GRAPH, "gradients": GRADIENTS["gradients"]})
    run("-", "--out", out, given=both)
    assert "Ask for capital letters." in out.read_text("utf-8")
    first = out.read_text("utf-8")
    run(DATA / "graph.v1.json", "--gradients", DATA / "gradients.v1.json", "--out", out)
    assert out.read_text("utf-8") == first


def test_without_a_name_the_page_goes_to_graph_html(tmp_path, monkeypatch):
    """In the working directory."""
    monkeypatch.chdir(tmp_path)
    assert run(DATA / "graph.v1.tools.json") == "graph.html\n"
    assert (tmp_path / "graph.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{", "is not valid JSON"),
        ("[]", "send an object"),
        ("{}", "graph: is missing; give a graph, a completion result"),
        (json.dumps(GRADIENTS), "--gradients"),
        ('{"completions": [], "graph": null}', "was not recorded; send the job with a Variable"),
        ('{"graph": []}', "graph: "),
        ('{"graph": {"variables": 3}}', "graph/variables: expected a list"),
        ('{"variables": [{"id": "a"}]}', "variables/0/data: is missing"),
        ('{"graph": {}, "gradients": {"x/y": []}}', "gradients/x~1y: is no variable of the graph"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(given, told, tmp_path):
    """One message, with the path and the remedy; nothing is written."""
    message = run("-", "--out", tmp_path / "graph.html", given=given, fails=Refused)
    assert message.startswith("<stdin>: ")
    assert told in message
    assert not list(tmp_path.iterdir())


def test_gradients_of_another_graph_are_told(tmp_path):
    """The message names the second file."""
    second = DATA / "gradients.v1.json"
    message = run(
        DATA / "graph.v1.tools.json", "--gradients", second, "-o", tmp_path / "x.dot", fails=Refused
    )
    assert message.startswith(f"{second}: gradients/sys: is no variable")


def test_another_suffix_is_told(tmp_path):
    """With those that there are."""
    assert ".svg, .dot (or .gv) or .html" in run(
        DATA / "graph.v1.json", "-o", tmp_path / "x.pdf", fails=BadFile
    )


def test_a_picture_without_graphviz_is_told(tmp_path, monkeypatch):
    """With what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    message = run(DATA / "graph.v1.json", "-o", tmp_path / "x.svg", fails=BadFile)
    assert "apt-get install graphviz" in message
