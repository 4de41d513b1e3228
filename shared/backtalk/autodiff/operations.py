"""Steps that a program takes itself: computed here, recorded, and passed back through without a model."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from backtalk.autodiff.recording import Begun
from backtalk.autodiff.steps import Step, new_id, next_number
from backtalk.autodiff.values import Normal
from backtalk.autodiff.variable import Variable
from backtalk.prompt import as_text
from backtalk.wire.graph import Graph
from backtalk.wire.graph import Variable as Value
from backtalk.wire.operations import Add, Edit, Plain, Split, Sum

_LONGEST_ROLE: Final = 300


def add(x: Variable, y: Variable) -> Variable:
    """Return two texts one behind the other, or the sum of two numbers; of batches item by item.

    >>> (Variable("abc", role="task") + Variable("def", role="format")).data
    'abcdef'
    >>> add(Variable([1, 2, 3]), Variable([4, 5, 6])).data
    [5, 7, 9]

    A number beside a text becomes text. Raises TypeError for what is no Variable, ValueError for a scalar with a list
    and for lists of different lengths.
    """
    _check_variables((x, y), "added to each other")
    return _combined(Add, (x, y), _plus)


def sum(variables: Iterable[Variable]) -> Variable:
    """Return texts together, each within an ITEM tag, or the sum of numbers; of batches item by item.

    >>> sum([Variable("one"), Variable("two")]).data
    '<ITEM>one</ITEM><ITEM>two</ITEM>'
    >>> sum([Variable(1), Variable(2), Variable(3.5)]).data
    6.5

    Raises TypeError for what is no Variable, ValueError for none at all and for shapes that differ.
    """
    handles = tuple(variables)
    if not handles:
        raise ValueError("sum of nothing; give at least one Variable")
    _check_variables(handles, "summed")
    return _combined(Sum, handles, _total)


def split(
    x: Variable, sep: str | Variable | None = None, maxsplit: int | Variable = -1
) -> tuple[Variable, ...]:
    """Return the parts of a text between separators (None: white space), as `str.split` does.

    >>> [part.data for part in split(Variable("a b c", role="list"))]
    ['a', 'b', 'c']
    >>> [part.data for part in split(Variable(["a b", "c"]))]
    [['a', 'c'], ['b', '']]

    Of a batch each part is a batch, and items of fewer parts have empty ones. Raises TypeError for numbers.
    """
    _check_variables((x,), "split")
    separator = sep.data if isinstance(sep, Variable) else sep
    most = maxsplit.data if isinstance(maxsplit, Variable) else maxsplit
    begun = Begun.reading((x,))
    held = begun.reads[0].value.data
    items = held if isinstance(held, tuple) else (held,)
    if not all(isinstance(item, str | None) for item in items):
        raise TypeError("only texts can be split; this Variable holds numbers")
    rows = [None if item is None else str(item).split(separator, most) for item in items]
    width = max([1, *(len(row) for row in rows if row is not None)])
    columns = [
        tuple(None if row is None else (row[at] if at < len(row) else "") for row in rows)
        for at in range(width)
    ]
    data = [column if isinstance(held, tuple) else column[0] for column in columns]
    roles = [f"split part {at} of {x.role}" for at in range(width)]
    return begun.wrote(Split, data, roles, sep=separator, maxsplit=most)


def edited(variable: Variable, data: Normal) -> tuple[Value, Step]:
    """Return what a Variable that an operation wrote becomes when the program puts other data in its place."""
    read, operation = variable.read(), new_id()
    after = read.value.model_copy(
        update={"id": new_id(), "data": data, "name": variable.name, "producer": operation}
    )
    edit = Edit(id=operation, inputs=(read.value.id,), outputs=(after.id,))
    return after, Step(next_number(), Graph(variables=(read.value, after), operations=(edit,)), (read,))


def _combined(
    kind: type[Plain], handles: Sequence[Variable], combine: Callable[[Sequence[Any]], Any]
) -> Variable:
    begun = Begun.reading(handles)
    data = begun.each(lambda *items: combine(items))
    return begun.wrote(kind, (data,), (_together(handles),))[0]


def _together(handles: Sequence[Variable]) -> str:
    """Return the roles of several; of a long chain both ends."""
    role = " and ".join(handle.role for handle in handles if handle.role)
    return (
        role
        if len(role) <= _LONGEST_ROLE
        else f"{role[: _LONGEST_ROLE // 2]} … {role[-_LONGEST_ROLE // 2 :]}"
    )


def _plus(items: Sequence[Any]) -> Any:
    x, y = items
    return as_text(x) + as_text(y) if isinstance(x, str) or isinstance(y, str) else x + y


def _total(items: Sequence[Any]) -> Any:
    if any(isinstance(item, str) for item in items):
        return "".join(f"<ITEM>{as_text(item)}</ITEM>" for item in items)
    return builtins.sum(items)


def _check_variables(found: Sequence[object], what: str) -> None:
    for one in found:
        if not isinstance(one, Variable):
            raise TypeError(f"only Variables can be {what}; wrap the {type(one).__name__} in Variable(…)")
