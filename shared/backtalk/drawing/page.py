"""One HTML page with the drawing and everything that is behind it; it needs no network and works from a file."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from backtalk.drawing.facts import facts
from backtalk.drawing.scene import NOTHING, AllGradients, Scene
from backtalk.drawing.svg import NoDot, inline
from backtalk.drawing.table import table
from backtalk.drawing.words import clean, counted
from backtalk.wire.graph import Graph

_HERE: Final = files("backtalk.drawing")


def to_html(graph: Graph, gradients: AllGradients = NOTHING) -> str:
    """Return a page with the drawing, or a table of the tape where Graphviz is missing, and details of every node."""
    scene = Scene(graph, gradients)
    drawing, remark = _drawing(scene)
    script = _asset("page.js")
    return Template(_asset("page.html")).substitute(
        style=_asset("page.css"),
        script=script,
        # only our own script may run, whatever a text of somebody's may contain
        allowed=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary=_summary(scene),
        remark=escape(clean(remark)),
        drawing=drawing,
        data=embedded(list(facts(scene))),
    )


def embedded(value: Any) -> str:
    """Return JSON that can stand in a script element: nothing in it ends the element, or begins a comment."""
    # json writes U+2028 and all else beyond ASCII as escapes
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _drawing(scene: Scene) -> tuple[str, str]:
    try:
        return inline(scene, linked=True), ""
    except NoDot as reason:
        return table(scene, linked=True), f"{reason}. Here is the tape instead."


def _summary(scene: Scene) -> str:
    graph = scene.graph
    entries = sum(len(scene.gradients_of(variable)) for variable in graph.variables)
    told = [
        counted(len(graph.operations), "operation"),
        counted(len(graph.variables), "variable"),
        counted(len(graph.parameters()), "parameter"),
    ]
    return ", ".join([*told, counted(entries, "gradient")] if entries else told)


def _asset(name: str) -> str:
    return _HERE.joinpath(name).read_text("utf-8")
