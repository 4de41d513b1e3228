"""The tape as a plain HTML table, for where nothing can be drawn; and what a notebook shows."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

from backtalk.drawing.facts import facts
from backtalk.drawing.scene import NOTHING, AllGradients, Scene
from backtalk.drawing.svg import NoDot, inline
from backtalk.drawing.words import clean, counted, excerpt
from backtalk.wire.graph import Graph

_HEAD: Final = "<tr><th>what</th><th>text</th><th>gradients</th></tr>"
_SCROLLED: Final = '<div style="overflow: auto; max-height: 48em">'
_MOST_GRADIENTS: Final = 4


def to_fragment(graph: Graph, gradients: AllGradients = NOTHING) -> str:
    """Return HTML to stand in a notebook: the drawing, or a table of the tape where Graphviz is missing."""
    scene = Scene(graph, gradients)
    try:
        return f"{_SCROLLED}{inline(scene)}</div>"
    except NoDot as reason:
        return f"{_SCROLLED}{table(scene)}<p><small>{_safe(str(reason))}</small></p></div>"


def table(scene: Scene, *, linked: bool = False) -> str:
    """Return the tape in order as a table; `linked` names lead to what the page tells of them."""
    rows = "".join(_row(fact, linked=linked) for fact in facts(scene) if fact["kind"] != "list")
    return f'<table class="tape"><thead>{_HEAD}</thead><tbody>{rows}</tbody></table>'


def _row(fact: dict[str, Any], *, linked: bool) -> str:
    name = f"<b>{_safe(fact['title'])}</b>" if fact["kind"] != "variable" else _safe(fact["title"])
    if linked:
        name = f'<a href="{escape(fact["key"])}">{name}</a>'
    cells = (name, _safe(fact["short"]), "<br>".join(map(_safe, _said(fact))))
    return f"<tr>{''.join(map(_cell, cells))}</tr>"


def _cell(content: str) -> str:
    # notebooks align numbers, and so everything, to the right
    return f'<td style="text-align: left; vertical-align: top">{content}</td>'


def _said(fact: dict[str, Any]) -> Iterator[str]:
    texts = [gradient["text"] for gradient in fact["gradients"]]
    said = [text for text in texts if text]
    for text in said[:_MOST_GRADIENTS]:
        yield from excerpt(text, width=100, lines=1)
    if len(said) > _MOST_GRADIENTS:
        yield f"and {len(said) - _MOST_GRADIENTS} more"
    if len(said) < len(texts):
        yield f"{counted(len(texts) - len(said), 'gradient')} empty"


def _safe(text: str) -> str:
    return escape(clean(text))
