"""The drawing as SVG, by Graphviz' program `dot`; nobody else runs it."""

from __future__ import annotations

import subprocess
from typing import Final

from backtalk.drawing.dot import draw
from backtalk.drawing.scene import NOTHING, AllGradients, Scene
from backtalk.wire.graph import Graph

_PATIENCE: Final = 60.0


class NoDot(RuntimeError):
    """Raised when Graphviz could not draw; the message names the remedy."""


def to_svg(graph: Graph, gradients: AllGradients = NOTHING) -> str:
    """Return the drawing as an SVG document; raises NoDot without Graphviz' program `dot`."""
    return laid_out(draw(Scene(graph, gradients)))


def inline(scene: Scene, *, linked: bool = False) -> str:
    """Return the drawing as an `<svg>` element to stand in a page; raises NoDot."""
    document = laid_out(draw(scene, linked=linked))
    return document[document.index("<svg") :]


def laid_out(source: str) -> str:
    """Return the SVG document of a drawing in the DOT language."""
    try:
        # the graphviz package would wait for ever; found on the PATH, as it does
        done = subprocess.run(
            ["dot", "-Tsvg"],  # noqa: S607
            input=source.encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
    except FileNotFoundError as error:
        raise NoDot(
            "Graphviz is missing: its program dot draws the SVG; install it "
            "(apt-get install graphviz, brew install graphviz), or write a .dot file"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NoDot(
            f"dot did not lay the graph out in {_PATIENCE:.0f} seconds; "
            "write a .html file, which lists the tape instead, or draw a part of the graph"
        ) from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise NoDot(f"dot failed ({last[0]}); write a .dot file and look at it there") from error
    return done.stdout.decode()
