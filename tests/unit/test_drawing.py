"""Drawings: what stands in them, and that no text of anybody's becomes markup."""

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from backtalk.drawing import NoDot, read_graph, svg, to_dot, to_fragment, to_svg, write
from backtalk.drawing.scene import Scene
from backtalk.drawing.words import clean, ends, excerpt, ranges, title
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Graph

DATA = Path(__file__).parents[1] / "data"
HAS_DOT = shutil.which("dot") is not None
GOLDEN = sorted(DATA.glob("graph.v1*.json"))
NAMESPACE = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    'say "hi" to \\N and \\l',
    "<b>bold</b> & <script>x()</script>",
    "{a|b} <port> | record",
    "ends in a backslash \\",
    "<<TABLE><TR><TD>x</TD></TR></TABLE>>",
    "]; node [shape=none]; /* -->",
    "&lt;already&gt; &#65; \\\\G",
    "emoji 🎉 and שלום עולם",
    "]]> <!-- <![CDATA[",
)


def entry(text, operation="op", sample=None, **more):
    told = {"role": "r", "input": "messages/0/content/0", "feedback": ("f",), "how": "model", **more}
    return Entry(text=text, operation=operation, sample=sample, **told)


def drawn(graph, gradients=None):
    """Return the nodes of the SVG by id, each as its lines of text; without Graphviz, what the DOT source says."""
    if not HAS_DOT:
        with pytest.raises(NoDot, match="apt-get install graphviz"):
            to_svg(graph, gradients or {})
        return None
    tree = ET.fromstring(to_svg(graph, gradients or {}))
    return {
        group.get("id"): [text.text.replace("\xa0", " ") for text in group.iter(f"{NAMESPACE}text")]
        for group in tree.iter(f"{NAMESPACE}g")
        if group.get("class") in ("node", "edge")
    }


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_every_golden_graph_is_drawn_with_all_its_nodes(path):
    """Each variable and operation is a node; new kinds of operations need no word here."""
    graph = Graph.model_validate_json(path.read_bytes())
    nodes = drawn(graph)
    source = to_dot(graph)
    names = [f"v{at}" for at in range(len(graph.variables))] + [
        f"o{at}" for at in range(len(graph.operations))
    ]
    assert all(f"\t{name} [" in source for name in names)
    if nodes is not None:
        assert set(names) <= nodes.keys()
        for at, operation in enumerate(graph.operations):
            assert nodes[f"o{at}"][0].endswith(operation.op.replace("_", " "))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_shown_as_it_is(graph_of, text):
    """In data, role, name, id, model and gradients; it comes out as the text it was."""
    graph = graph_of(
        {text: {"data": text, "role": text, "name": text, "requires_grad": True}, "o": text},
        (f"{text}o", "", "o", {"messages": [{"role": "user", "content": [text]}], "model": text}),
    )
    nodes = drawn(graph, {text: [entry(text)]})
    if nodes is not None:
        flat = " ".join(text.split())
        shown = {name: "".join(lines).replace(" ", "") for name, lines in nodes.items()}
        wanted = flat.replace(" ", "")[:18]
        assert all(wanted in shown[name] for name in ("v0", "v1", "o0", "n0"))
        assert shown["v0"].count(wanted) == 3


@pytest.mark.parametrize(
    "data",
    ["x" * 1_000_000, "a\nb\r\n\tc\n" * 1000, "\x00\x07\x1b", "\ud800", "\ufffe", "", " \n ", "\u202eabc"],
)
def test_no_length_and_no_character_breaks_a_drawing(graph_of, data):
    """Megabytes are cut, what XML cannot hold is replaced, and nothing is said to be empty."""
    graph = graph_of({"a": data, "b": {"data": [None, data], "role": ""}}, ("op", "a b", ""))
    source = to_dot(graph, {"a": [entry(data)]})
    assert len(source) < 10_000
    source.encode()
    assert (drawn(graph, {"a": [entry(data)]}) is None) is not HAS_DOT


def test_arrows_bear_the_positions_in_the_order_of_the_tape(graph_of):
    """A variable that is read twice has one arrow with both paths."""
    graph = graph_of({"a": "x", "b": "y", "o": "z"}, ("op", "a b a", "o"))
    edges = Scene(graph, {}).edges
    assert [(edge.tail, edge.head, edge.labels) for edge in edges] == [
        ("v0", "o0", ("messages/0/content/0", "messages/0/content/2")),
        ("v1", "o0", ("messages/0/content/1",)),
        ("o0", "v2", ()),
    ]
    assert "messages/0/content/1" in to_dot(graph)


def list_graph(graph_of, length, **more):
    ids = [f"x{at}" for at in range(length)]
    variables = {"p": "Say {x}"} | dict.fromkeys(ids, "word") | {"o": {"data": ["r"] * length}} | more
    return graph_of(variables, ("op", "p", "o", {"inputs": {"x": ids}}))


def test_a_short_list_is_drawn_arrow_by_arrow(graph_of):
    """Each says which sample reads."""
    labels = [edge.labels for edge in Scene(list_graph(graph_of, 2), {}).edges]
    assert labels == [("messages/0/content/0",), ("inputs/x [0]",), ("inputs/x [1]",), ()]


def test_a_long_list_is_one_node_with_one_arrow(graph_of):
    """Plain values are inside it; what requires a gradient, or has one, keeps its place."""
    graph = list_graph(graph_of, 36, x2={"data": "w", "requires_grad": True})
    scene = Scene(graph, {"x3": [entry("criticism")]})
    second, third = scene.places["x2"], scene.places["x3"]
    assert [(edge.tail, edge.head, edge.labels) for edge in scene.edges] == [
        (scene.places["p"], "o0", ("messages/0/content/0",)),
        (second, "l0", ("[2]",)),
        (third, "l0", ("[3]",)),
        ("l0", "o0", ("inputs/x",)),
        ("o0", scene.places["o"], ()),
    ]
    assert scene.places["x9"] == "l0"
    assert len(scene.drawn) == 4
    assert "first of a list of 36 variables" in to_dot(graph)


def test_what_is_read_far_behind_is_named_once_more_there(graph_of):
    """A system prompt of a long chain has no arrow across all of it."""
    chain = [(f"o{at}", f"sys r{at}", f"r{at + 1}") for at in range(12)]
    graph = graph_of({"sys": "Be kind.", **{f"r{at}": "x" for at in range(13)}}, *chain)
    scene = Scene(graph, {})
    assert 0 < len(scene.echoes) < 12
    assert {echo.variable.id for echo in scene.echoes} == {"sys"}
    assert all(echo.name in to_dot(graph) for echo in scene.echoes)


def test_gradients_are_a_badge_and_a_note(graph_of):
    """The empty ones are counted, and of many the first are shown."""
    graph = graph_of({"a": {"data": "x", "requires_grad": True}, "o": "y"}, ("op", "a", "o"))
    entries = [entry(f"criticism {at}") for at in range(6)] + [entry("", how="empty")] * 2
    source = to_dot(graph, {"a": entries, "stranger": entries})
    assert "8 gradients" in source
    assert "criticism 3" in source
    assert "criticism 4" not in source
    assert "and 2 more" in source
    assert "2 empty" in source
    nodes = drawn(graph, {"a": entries})
    assert nodes is None or "2 empty: nothing to say" in nodes["n0"]


def test_failed_items_parameters_and_fragments_can_be_seen(graph_of):
    """What failed is counted in its box, and what was written elsewhere says so."""
    graph = graph_of(
        {
            "p": {"data": "x", "requires_grad": True},
            "b": {"data": [None, "second", None]},
            "far": {"data": "x", "producer": "gone"},
        }
    )
    source = to_dot(graph)
    assert "second" in source
    assert "item 1 of 3 items" in source
    assert "2 failed" in source
    assert "written outside of this graph" in source
    assert source.count("penwidth=2") == 1


def test_what_takes_no_gradient_is_dashed():
    """An operation may have had variables at hand that are no positions of it."""
    graph, _ = read_graph((DATA / "graph.v1.evaluations.json").read_bytes())
    beside = [edge for edge in Scene(graph, {}).edges if edge.kind == "beside"]
    assert beside
    assert re.search(rf"{beside[0].tail} -> {beside[0].head} .*style=dashed", to_dot(graph))


def test_files_go_by_their_suffix(graph_of, tmp_path):
    """Another one is refused with those that there are."""
    graph = graph_of({"a": "x"})
    for name in ("graph.dot", "graph.gv"):
        write(tmp_path / name, graph)
        assert (tmp_path / name).read_text().startswith("digraph")
    write(str(tmp_path / "graph.HTML"), graph)
    if HAS_DOT:
        write(tmp_path / "graph.svg", graph)
        assert ET.parse(tmp_path / "graph.svg").getroot().tag == f"{NAMESPACE}svg"
    with pytest.raises(ValueError, match=r"\.svg, \.dot \(or \.gv\) or \.html"):
        write(tmp_path / "graph.pdf", graph)
    assert not (tmp_path / "graph.pdf").exists()


def test_without_graphviz_it_says_what_to_do(graph_of, monkeypatch, tmp_path):
    """The SVG is refused with the remedy, and nothing is written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoDot, match=r"apt-get install graphviz, brew install graphviz.*write a .dot"):
        write(tmp_path / "graph.svg", graph_of({"a": "x"}))
    assert not (tmp_path / "graph.svg").exists()


@pytest.mark.parametrize(
    ("script", "told"), [("echo oh no >&2; exit 3", "dot failed.*oh no"), ("exec sleep 9", "seconds")]
)
def test_a_dot_that_fails_or_takes_for_ever_is_told(graph_of, monkeypatch, tmp_path, script, told):
    """Whoever waits gets a reason."""
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(svg, "_PATIENCE", 0.2)
    with pytest.raises(NoDot, match=told):
        to_svg(graph_of({"a": "x"}))


def test_a_notebook_gets_the_drawing_or_a_table(graph_of, monkeypatch, tmp_path):
    """The table has the tape in order, and every text escaped."""
    graph = graph_of({"a": "<b>&", "o": {"data": [None, "y"]}, "c": ["1", "2"]}, ("op", "a c", "o"))
    gradients = {"a": [entry("<i>loud"), entry("", how="empty")]}
    assert ("<svg" in to_fragment(graph, gradients)) is HAS_DOT
    monkeypatch.setenv("PATH", str(tmp_path))
    table = to_fragment(graph, gradients)
    assert "<svg" not in table
    assert "&lt;b&gt;&amp;" in table
    assert "&lt;i&gt;loud" in table
    assert "1 gradient empty" in table
    assert [
        table.index(word) for word in ("role of a", "role of c", "chat completion", "role of o")
    ] == sorted(table.index(word) for word in ("role of a", "role of c", "chat completion", "role of o"))
    ET.fromstring(table.replace("<br>", "<br/>"))


def test_words_are_made_short():
    """A mark shows where something is missing."""
    assert excerpt("one two three", width=8, lines=1) == ("one two…",)
    assert excerpt("a\n\nb", width=9, lines=3) == ("a", "b")
    assert excerpt("", width=9, lines=3) == ()
    assert title(" a \n b ", 9) == "a b"
    assert title("  ", 9) == "(empty)"
    assert ends("abcdefghij", 6) == "ab…ghij"
    assert ranges([0, 2, 3, 4, 7]) == "0, 2-4, 7"
    assert clean("a\x00\ud800\n") == "a\u2400\ufffd\n"
