"""Steps that a program takes itself: computed here, recorded, and passed back through without a model."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

from backtalk.autodiff.mode import is_grad_enabled
from backtalk.autodiff.steps import Step, new_id, next_number, read, step_of
from backtalk.autodiff.values import Normal, items_of, text_of, value_of
from backtalk.autodiff.variable import Variable
from backtalk.wire.graph import Variable as Value
from backtalk.wire.operations import Add, Edit, Plain, Split, Sum


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


def sum(variables: Sequence[Variable]) -> Variable:
    """Return texts together, each within an ITEM tag, or the sum of numbers; of batches item by item.

    >>> sum([Variable("one"), Variable("two")]).data
    '<ITEM>one</ITEM><ITEM>two</ITEM>'
    >>> sum([Variable(1), Variable(2), Variable(3.5)]).data
    6.5

    Raises TypeError for what is no Variable, ValueError for none at all and for shapes that differ.
    """
    if not variables:
        raise ValueError("sum of nothing; give at least one Variable")
    _check_variables(variables, "summed")
    return _combined(Sum, tuple(variables), _total)


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
    held = x.read().value.data
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
    return recorded(Split, (x,), data, roles, sep=separator, maxsplit=most)


def edited(variable: Variable, data: Normal) -> tuple[Value, Step]:
    """Return what a Variable that an operation wrote becomes when the program puts other data in its place."""
    before, operation = variable.read().value, new_id()
    after = before.model_copy(
        update={"id": new_id(), "data": data, "name": variable.name, "producer": operation}
    )
    edit = Edit(id=operation, inputs=(before.id,), outputs=(after.id,))
    return after, step_of(next_number(), read((variable,)), (edit,), (after,))


def recorded(
    kind: type[Plain],
    handles: Sequence[Variable],
    data: Sequence[Any],
    roles: Sequence[str],
    **fields: Any,
) -> tuple[Variable, ...]:
    """Return what an operation wrote; recorded only where recording is on and one of its inputs wants a gradient."""
    number, id = next_number(), new_id()
    written = tuple(
        Value(id=new_id(), data=value_of(one), role=role, requires_grad=True, producer=id)
        for one, role in zip(data, roles, strict=True)
    )
    step = None
    if is_recorded(handles):
        outputs = tuple(value.id for value in written)
        operation: Any = kind(id=id, inputs=tuple(one.id for one in handles), outputs=outputs, **fields)
        step = step_of(number, read(handles), (operation,), written)
    return tuple(Variable.written(value, step) for value in written)


def is_recorded(handles: Sequence[Variable]) -> bool:
    """Tell whether an operation that reads these is recorded."""
    return is_grad_enabled() and any(handle.requires_grad for handle in handles)


def each(handles: Sequence[Variable], compute: Callable[..., Any], *, broadcast: bool = False) -> Any:
    """Compute something of scalars, or of batches item by item; a failed item stays failed.

    Raises ValueError where shapes differ; with `broadcast` a scalar serves every item.
    """
    data = [handle.read().value.data for handle in handles]
    lengths = {items_of(one) for one in data} - ({None} if broadcast else set())
    if len(lengths) > 1:
        told = ", ".join(
            "a scalar" if count is None else f"a list of {count}" for count in map(items_of, data)
        )
        raise ValueError(f"shapes differ: {told}; give only scalars, or only lists of one length")
    length = next(iter(lengths), None)
    if length is None:
        return compute(*data)
    columns = [one if isinstance(one, tuple) else (one,) * length for one in data]
    return [None if None in items else compute(*items) for items in zip(*columns, strict=True)]


def _combined(
    kind: type[Plain], handles: Sequence[Variable], combine: Callable[[Sequence[Any]], Any]
) -> Variable:
    data = each(handles, lambda *items: combine(items))
    role = " and ".join(handle.role for handle in handles if handle.role)
    return recorded(kind, handles, (data,), (role,))[0]


def _plus(items: Sequence[Any]) -> Any:
    x, y = items
    return text_of(x) + text_of(y) if isinstance(x, str) or isinstance(y, str) else x + y


def _total(items: Sequence[Any]) -> Any:
    if any(isinstance(item, str) for item in items):
        return "".join(f"<ITEM>{text_of(item)}</ITEM>" for item in items)
    return builtins.sum(items)


def _check_variables(found: Sequence[object], what: str) -> None:
    for one in found:
        if not isinstance(one, Variable):
            raise TypeError(f"only Variables can be {what}; wrap the {type(one).__name__} in Variable(…)")
