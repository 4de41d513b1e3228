"""Pictures of a tape: what a graph holds, and what was criticised, for people. Knows the wire, and nothing that runs."""

from __future__ import annotations

from backtalk.drawing.dot import to_dot
from backtalk.drawing.files import write
from backtalk.drawing.page import to_html
from backtalk.drawing.scene import NOTHING, AllGradients
from backtalk.drawing.source import read, read_gradients, read_graph
from backtalk.drawing.svg import NoDot, to_svg
from backtalk.drawing.table import to_fragment

__all__ = [
    "NOTHING",
    "AllGradients",
    "NoDot",
    "read",
    "read_gradients",
    "read_graph",
    "to_dot",
    "to_fragment",
    "to_html",
    "to_svg",
    "write",
]
