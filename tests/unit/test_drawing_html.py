"""The page: whole without a network, with every text as data."""

import base64
import hashlib
import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from backtalk.drawing import palette, to_html
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Graph

HAS_DOT = shutil.which("dot") is not None
ENDINGS = (
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "\u2028\u2029",
    "]]>",
    "<img src=x onerror=y>",
)
PAGE = Path(__file__).parents[2] / "shared/backtalk/drawing"


class Elements(HTMLParser):
    """Collects elements and their attributes, and the text of each script."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.scripts = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        if tag == "script":
            self.found.append(("/script", {}))


def facts(page):
    """Return what the page knows of each node, by its address."""
    return {fact["key"]: fact for fact in json.loads(Elements(page).scripts[0])}


def entry(text, **more):
    told = {"role": "r", "operation": "op", "input": "messages/0/content/0", "sample": 1, "how": "model"}
    return Entry(text=text, feedback=("f1",), **{**told, **more})


def test_the_page_holds_everything_behind_the_drawing(graph_of):
    """Whole texts of every item, the fields of operations, gradients with where they came from."""
    graph = graph_of(
        {"a": {"data": "x" * 5000, "requires_grad": True, "name": "A"}, "b": ["one", None], "o": ["1", None]},
        ("op", "a b", "o", {"arguments": {"temperature": 0.5}}),
    )
    told = facts(to_html(graph, {"a": [entry("Be brief.", incomplete=True), entry("", how="empty")]}))
    assert told["#variable/a"]["texts"] == [["", "x" * 5000]]
    assert ["name", "A"] in told["#variable/a"]["facts"]
    assert told["#variable/b"]["texts"] == [["item 0", "one"], ["item 1", None]]
    assert ["size", "2 items, 1 failed"] in told["#variable/b"]["facts"]
    first, second = told["#variable/a"]["gradients"]
    assert first["text"] == "Be brief."
    assert {"how": "model, incomplete", "input": "messages/0/content/0", "sample": "1"}.items() <= dict(
        first["facts"]
    ).items()
    assert first["links"][0]["key"] == "#operation/op"
    assert second["text"] == ""
    operation = told["#operation/op"]
    assert ["model", "gpt-4o"] in operation["facts"]
    assert json.loads(dict(operation["texts"])["arguments"]) == {"temperature": 0.5}
    assert [link["key"] for link in operation["links"]] == ["#variable/a", "#variable/b", "#variable/o"]


@pytest.mark.parametrize("text", ENDINGS)
def test_no_text_ends_the_data_or_becomes_an_element(graph_of, text):
    """The page has the elements it would have with harmless texts, and the data gives the texts back."""
    page, harmless = (
        to_html(
            graph_of(
                {"a": {"data": words, "role": words, "name": words}, "o": [words, None]},
                ("op", "a", "", {"model": words}),
                ("next", "o", ""),
            ),
            {"a": [entry(words)]},
        )
        for words in (text, "harmless")
    )
    found, expected = Elements(page), Elements(harmless)
    assert len(found.scripts) == len(expected.scripts) == 2
    assert {tag for tag, _ in found.found} == {tag for tag, _ in expected.found}
    assert not [name for _, attributes in found.found for name in attributes if name.startswith("on")]
    assert facts(page)["#variable/a"]["texts"] == [["", text]]
    assert text not in found.scripts[0]


def test_only_our_script_may_run_and_nothing_is_fetched(graph_of):
    """The policy names the hash of the one script, and no attribute leads anywhere but into the page."""
    page = Elements(to_html(graph_of({"a": "https://example.org/x.js"}, ("op", "a", ""))))
    policy = next(
        attributes["content"]
        for tag, attributes in page.found
        if tag == "meta" and "http-equiv" in attributes
    )
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    links = [
        value
        for _, attributes in page.found
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action")
    ]
    assert links
    assert all(link.startswith("#") for link in links)


def test_ids_of_any_kind_can_be_linked_to(graph_of):
    """What stands in the drawing is the address that the data has."""
    ids = ["a/b", "a b", "100%", "ü", '"<>', "\\N", "'", "~.-_"]
    page = to_html(graph_of(dict.fromkeys(ids, "x"), ("op #1", "", "")))
    links = {attributes.get("xlink:href", attributes.get("href")) for _, attributes in Elements(page).found}
    assert facts(page).keys() <= links
    assert "#operation/op%20%231" in links


def test_without_graphviz_the_page_lists_the_tape(graph_of, monkeypatch, tmp_path):
    """The reason stands above it, and its names lead to the details."""
    monkeypatch.setenv("PATH", str(tmp_path))
    page = to_html(graph_of({"a": "x", "o": "y"}, ("op", "a", "o")))
    assert "<svg" not in page
    assert "install graphviz" in page
    assert '<a href="#operation/op">' in page


def test_the_page_knows_every_colour_of_the_drawing():
    """Each has its own for dark and light."""
    style = (PAGE / "page.css").read_text("utf-8")
    colours = {value for name, value in vars(palette).items() if name.isupper()}
    assert {colour for colour in colours if f'[fill="{colour}"]' not in style} == set()
    assert len(set(re.findall(r"--[a-z-]+(?=:)", style))) * 2 == len(re.findall(r"--[a-z-]+(?=:)", style))


def test_a_large_graph_has_a_page_within_seconds():
    """1,000 calls in a chain with one prompt: no arrow crosses all of it."""
    variables, operations = [{"id": "sys", "data": "Be kind.", "role": "system", "requires_grad": True}], []
    for at in range(1000):
        variables.append({"id": f"r{at}", "data": "reply", "role": "reply", "producer": f"o{at}"})
        content = ["sys", f"r{at - 1}"] if at else ["sys"]
        call = {"op": "chat_completion", "endpoint": "e", "model": "m", "outputs": [f"r{at}"]}
        operations.append({"id": f"o{at}", "messages": [{"role": "user", "content": content}], **call})
    started = time.monotonic()
    page = to_html(Graph.model_validate({"variables": variables, "operations": operations}))
    assert time.monotonic() - started < 100
    assert len(facts(page)) == 2001
    assert ("<svg" in page) is HAS_DOT
