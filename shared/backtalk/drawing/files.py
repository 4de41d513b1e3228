"""Drawings as files; the suffix names the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from backtalk.drawing.dot import to_dot
from backtalk.drawing.page import to_html
from backtalk.drawing.scene import NOTHING, AllGradients
from backtalk.drawing.svg import to_svg
from backtalk.wire.graph import Graph

_FORMATS: Final[Mapping[str, Callable[[Graph, AllGradients], str]]] = {
    ".svg": to_svg,
    ".dot": to_dot,
    ".gv": to_dot,
    ".html": to_html,
}


def write(path: Path | str, graph: Graph, gradients: AllGradients = NOTHING) -> None:
    """Write the drawing in the format that the suffix names.

    Raises ValueError for a suffix that is none of ours, NoDot for an SVG without Graphviz.
    """
    path = Path(path)
    draw = _FORMATS.get(path.suffix.lower())
    if draw is None:
        raise ValueError(f"{path}: the suffix names the format; end it in .svg, .dot (or .gv) or .html")
    path.write_text(draw(graph, gradients), "utf-8")
