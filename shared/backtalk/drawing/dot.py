"""A scene in the language of Graphviz, written by the graphviz package."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from graphviz import Digraph

from backtalk.drawing import palette
from backtalk.drawing.labels import (
    echo_label,
    edge_label,
    note_label,
    operation_label,
    stack_label,
    tooltip,
    variable_label,
)
from backtalk.drawing.scene import NOTHING, AllGradients, Edge, Scene
from backtalk.drawing.words import spoken
from backtalk.wire.graph import Graph, Variable

_FONT: Final = "Helvetica,Arial,sans-serif"
# above these many nodes good looks take minutes; straight lines without labels, and fewer rounds, take seconds
_MANY: Final = 1000
_CARE: Final = {"ordering": "in"}
_HASTE: Final = {"splines": "line", "nslimit": "0.1", "nslimit1": "0.1", "mclimit": "0.2"}
_ARROWS: Final = {
    "read": {},
    "write": {},
    "beside": {"style": "dashed", "arrowhead": "open"},
}


def to_dot(graph: Graph, gradients: AllGradients = NOTHING) -> str:
    """Return the drawing in the DOT language; gradients of variables that are not in the graph are left out."""
    return draw(Scene(graph, gradients))


def draw(scene: Scene, *, linked: bool = False) -> str:
    """Return a scene in the DOT language; `linked` nodes lead to `#variable/ID` and `#operation/ID`."""
    return _Drawing(scene, linked=linked).source()


def address(kind: str, id: str) -> str:
    """Return the link to a variable or operation inside the page."""
    return f"#{kind}/{quote(id, safe='', errors='replace')}"


class _Drawing:
    def __init__(self, scene: Scene, *, linked: bool) -> None:
        self.scene = scene
        self.linked = linked
        self.many = len(scene.drawn) + len(scene.operations) + len(scene.echoes) > _MANY
        looks = _GRAPH | (_HASTE if self.many else _CARE)
        self.dot = Digraph("backtalk", graph_attr=looks, node_attr=_NODE, edge_attr=_EDGE)

    def source(self) -> str:
        for name, variable in self.scene.drawn.items():
            self._variable(name, variable)
        for stack in self.scene.stacks.all:
            link = self._link("list", stack.name)
            self._node(stack.name, stack_label(stack, self.scene.graph), fillcolor=palette.STACK, **link)
        for number, (name, operation) in enumerate(self.scene.operations.items(), 1):
            label = operation_label(operation, number)
            self._node(name, label, **_OPERATION, **self._link("operation", operation.id))
        for echo in self.scene.echoes:
            link = self._link("variable", echo.variable.id)
            self._node(echo.name, echo_label(echo.variable), style="dashed,rounded", **link)
        for edge in self.scene.edges:
            self._edge(edge)
        return str(self.dot.source)

    def _node(self, name: str, label: str, **look: str) -> None:
        self.dot.node(name, label, id=name, **look)

    def _variable(self, name: str, variable: Variable) -> None:
        gradients = self.scene.gradients_of(variable)
        outside = self.scene.is_outside(variable)
        link = self._link("variable", variable.id, _told(variable))
        look = _PARAMETER if variable.requires_grad and variable.producer is None else {}
        if outside:
            look = {"style": "filled,dashed"}
        self._node(name, variable_label(variable, gradients, outside=outside), **look, **link)
        if gradients:
            note = f"n{name[1:]}"
            self._node(note, note_label(gradients), **_NOTE, **self._link("variable", variable.id))
            self.dot.edge(name, note, **_TO_NOTE)

    def _edge(self, edge: Edge) -> None:
        label = None if self.many else edge_label(edge.labels)
        told = tooltip(", ".join(edge.labels))
        self.dot.edge(edge.tail, edge.head, label, edgetooltip=told, labeltooltip=told, **_ARROWS[edge.kind])

    def _link(self, kind: str, id: str, told: str = "") -> dict[str, str]:
        # in the page a click shows the whole text
        if self.linked:
            return {"tooltip": tooltip(f"{kind} {id}"), "URL": address(kind, id)}
        return {"tooltip": tooltip(told or id)}


def _told(variable: Variable) -> str:
    first = variable.data[0] if isinstance(variable.data, tuple) else variable.data
    return spoken(first)


_GRAPH: Final = {
    "rankdir": "LR",
    "bgcolor": "transparent",
    "ranksep": "0.45",
    "nodesep": "0.22",
    "pad": "0.2",
    "tooltip": " ",
}
_NODE: Final = {
    "shape": "box",
    "style": "filled",
    "fillcolor": palette.PAPER,
    "color": palette.LINE,
    "fontname": _FONT,
    "fontsize": "11",
    "margin": "0.06,0.04",
}
_EDGE: Final = {
    "color": palette.LINE,
    "fontname": _FONT,
    "fontsize": "9",
    "arrowsize": "0.7",
}
_PARAMETER: Final = {"fillcolor": palette.PARAMETER, "color": palette.ACCENT, "penwidth": "2"}
_OPERATION: Final = {
    "style": "filled,rounded",
    "fillcolor": palette.OPERATION,
    "color": palette.OPERATION,
}
_NOTE: Final = {"shape": "note", "fillcolor": palette.NOTE, "color": palette.BADGE}
_TO_NOTE: Final = {"style": "dashed", "color": palette.BADGE, "dir": "back", "edgetooltip": "gradients"}
