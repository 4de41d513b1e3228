"""What stands in the nodes, as Graphviz' HTML-like labels. Every text goes through `_safe`, so none becomes markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

import graphviz

from backtalk.drawing import palette
from backtalk.drawing.headline import headline
from backtalk.drawing.reads import Stack
from backtalk.drawing.words import FAILED, clean, counted, ends, excerpt, few, spoken, title
from backtalk.wire.base import shortened
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Graph, Operation, Variable

_WIDTH: Final = 34
_LINES: Final = 3
_MOST_GRADIENTS: Final = 4
_MOST_TOLD: Final = 400


def variable_label(variable: Variable, gradients: Sequence[Entry], *, outside: bool) -> str:
    """Return role, name and number of gradients above the data, or its first item that did not fail."""
    rows = [_row(_head(variable), *_badge(gradients))]
    if variable.name:
        rows.append(_small(variable.name))
    rows += _data(variable)
    if outside:
        rows.append(_small("written outside of this graph"))
    return _table(rows)


def echo_label(variable: Variable) -> str:
    """Return the role alone: the data stands where the variable is drawn first."""
    return _table([_row(_cell(_text([title(variable.role, _WIDTH)], palette.MUTED)))])


def stack_label(stack: Stack, graph: Graph) -> str:
    """Return how many variables a list has, what they are, and the first of them."""
    members = [graph.index.variables[id] for id in stack.ids]
    roles = {member.role for member in members}
    role = title(roles.pop(), _WIDTH) if len(roles) == 1 else "values"
    first = excerpt(spoken(members[0].data), width=_WIDTH, lines=1)
    return _table(
        [
            _row(_cell(_bold(role))),
            _row(_cell(_text(first or ("(empty)",), palette.INK))),
            _small(f"first of a list of {counted(len(members), 'variable')}"),
        ]
    )


def operation_label(operation: Operation, number: int) -> str:
    """Return what the operation is, its place on the tape, and what tells it from others of its kind."""
    told = headline(operation)
    first = _row(_cell(_bold(f"{number}  {told.kind}", palette.ON_OPERATION)))
    named = [_row(_cell(_text([name], palette.ON_OPERATION))) for name in told.names]
    rest = [_row(_cell(_text([fact], palette.ON_OPERATION_MUTED, size=9))) for fact in told.facts]
    return _table([first, *named, *rest])


def note_label(gradients: Sequence[Entry]) -> str:
    """Return the first gradients, shortened; those that say nothing are counted."""
    said = [entry.text for entry in gradients if entry.text]
    rows = [_said(text) for text in said[:_MOST_GRADIENTS]]
    if len(said) > _MOST_GRADIENTS:
        rows.append(_small(f"and {len(said) - _MOST_GRADIENTS} more", palette.ON_NOTE))
    if empty := len(gradients) - len(said):
        rows.append(_small(f"{empty:,} empty: nothing to say", palette.ON_NOTE))
    return _table(rows)


def edge_label(labels: Sequence[str]) -> str | None:
    """Return the first paths of an arrow, one a line."""
    shown = few((ends(label, _WIDTH) for label in labels), len(labels), 3)
    return f"<{_text(shown, palette.MUTED, size=9)}>" if shown else None


def tooltip(text: str) -> str:
    """Return a longer piece of a text, for whoever points at a node; an escString, not HTML."""
    # escape takes care that <…> is not read as a label of markup, nor \N as a name
    return graphviz.escape(clean(shortened(text, _MOST_TOLD)) or " ")


def _head(variable: Variable) -> str:
    colour = palette.ACCENT if variable.requires_grad and variable.producer is None else palette.INK
    role = excerpt(variable.role, width=_WIDTH, lines=2) or ("(no role)",)
    return _cell(f"<B>{_text(role, colour)}</B>")


def _badge(gradients: Sequence[Entry]) -> Iterator[str]:
    if gradients:
        words = _text([counted(len(gradients), "gradient")], palette.ON_BADGE, size=9)
        yield f'<TD ALIGN="RIGHT" BGCOLOR="{palette.BADGE}" STYLE="ROUNDED">{words}</TD>'


def _data(variable: Variable) -> Iterator[str]:
    if not isinstance(variable.data, tuple):
        yield _value(variable.data, _LINES)
        return
    failed = variable.data.count(None)
    at = next((at for at, item in enumerate(variable.data) if item is not None), 0)
    yield _value(variable.data[at], _LINES - 1)
    yield _small(f"item {at} of {counted(len(variable.data), 'item')}")
    if failed:
        yield _small(f"{failed:,} failed", palette.FAILURE)


def _value(value: Any, lines: int) -> str:
    shown = excerpt(spoken(value), width=_WIDTH, lines=lines)
    if value is None or not shown:
        return _small(FAILED, palette.FAILURE) if value is None else _small("(empty)")
    return _row(_cell(_text(shown, palette.INK)))


def _said(text: str) -> str:
    shown = excerpt(text, width=_WIDTH + 8, lines=2) or ("(white space)",)
    return _row(_cell(_text(shown, palette.ON_NOTE)))


def _table(rows: Iterable[str]) -> str:
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2">{"".join(rows)}</TABLE>>'


def _row(*cells: str) -> str:
    # all rows but the first span both columns
    if len(cells) == 1:
        cells = (cells[0].replace("<TD ", '<TD COLSPAN="2" ', 1),)
    return f"<TR>{''.join(cells)}</TR>"


def _cell(content: str) -> str:
    return f'<TD ALIGN="LEFT" BALIGN="LEFT">{content}</TD>'


def _small(text: str, colour: str = palette.MUTED) -> str:
    return _row(_cell(_text([title(text, _WIDTH + 8)], colour, size=9)))


def _bold(text: str, colour: str = palette.INK) -> str:
    return f"<B>{_text([text], colour)}</B>"


def _text(lines: Iterable[str], colour: str, size: int = 11) -> str:
    joined = "<BR/>".join(map(_safe, lines))
    return f'<FONT COLOR="{colour}" POINT-SIZE="{size}">{joined}</FONT>'


def _safe(line: str) -> str:
    # Graphviz reads \N and \L even here
    return escape(clean(line).replace("\\", "\\\\")) or " "
