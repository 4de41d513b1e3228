"""All that led to a Variable, to be drawn, saved, or sent elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backtalk.autodiff.steps import Read, graph_of, leading_to, reads_of
from backtalk.autodiff.variable import Gradient, Variable
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Graph

_DRAWN: Final = (".svg", ".html", ".dot", ".gv")


@dataclass(frozen=True)
class Tape:
    """A graph in the form that both workers read, and the gradients found so far, by the id of what they are about."""

    graph: Graph
    gradients: Mapping[str, Sequence[Entry]] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write it as `.json`, for `backtalk graph` and for other services, or drawn: `.svg`, `.html`, `.dot`."""
        path = Path(path)
        if path.suffix == ".json":
            path.write_text(json.dumps(self.as_json(), ensure_ascii=False, indent=1), "utf-8")
            return path
        if path.suffix.lower() not in _DRAWN:
            raise ValueError(f"{path}: the suffix names the format; end it in .json, {', '.join(_DRAWN)}")
        from backtalk.drawing import write  # noqa: PLC0415  graphviz is of use only here

        write(path, self.graph, self.gradients)
        return path

    def as_json(self) -> dict[str, object]:
        """Return graph and gradients as JSON has them."""
        return {
            "graph": self.graph.model_dump(mode="json"),
            "gradients": {
                id: [entry.model_dump(mode="json") for entry in entries]
                for id, entries in self.gradients.items()
            },
        }

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from backtalk.drawing import to_fragment  # noqa: PLC0415  graphviz is of use only here

        return to_fragment(self.graph, self.gradients)


def tape_of(variables: Sequence[Variable]) -> Tape:
    """Return the tape that leads to some Variables, themselves included."""
    reads = [variable.read() for variable in variables]
    steps = leading_to(one.step for one in reads)
    graph = graph_of(steps, (one.value for one in reads))
    return Tape(graph, _gradients(graph, [*reads_of(steps), *reads]))


def _gradients(graph: Graph, reads: Iterable[Read]) -> dict[str, list[Entry]]:
    """Return the gradients that the handles of a graph hold, of the values that are in it."""
    found: dict[str, list[Entry]] = {}
    for handle in dict.fromkeys(one.handle for one in reads):
        for one in handle.grad if handle.is_leaf or handle.retains_grad else ():
            if isinstance(one, Gradient) and one.about in graph.index.variables:
                found.setdefault(one.about, []).append(one.entry)
    return found
