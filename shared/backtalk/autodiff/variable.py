"""The handle that a program holds: a value with a purpose, where it comes from, and what was said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from backtalk.autodiff import values
from backtalk.autodiff.differentiable import Differentiable
from backtalk.autodiff.steps import Read, Step, new_id
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Variable as Value

if TYPE_CHECKING:
    from backtalk.autodiff.tape import Tape


class Variable(Differentiable):
    """A text, a number, or a list of them (a batch), with a role: what it is for, in words.

    >>> prompt = Variable("Be brief.", role="system prompt", requires_grad=True)
    >>> prompt
    Variable('Be brief.', role='system prompt', requires_grad=True)
    >>> Variable([1, 2.5]).data
    [1.0, 2.5]

    A handle: each value it takes is recorded under an id of its own, `id`, and all of them under one name. Lists hold
    texts only or numbers only; None in one marks an item that failed. Nothing is connected or sent when one is made.
    Raises TypeError for data of other types.
    """

    def __init__(
        self,
        data: values.Data = "",
        role: str = "",
        requires_grad: bool = False,  # noqa: FBT001, FBT002  the order that users of tensors know
        *,
        name: str | None = None,
    ) -> None:
        self._value = Value(
            id=new_id(),
            data=values.value_of(data),
            role=values.words(role, "role"),
            requires_grad=bool(requires_grad),
            name=None if name is None else values.words(name, "name"),
        )
        self._step: Step | None = None
        self._grad: list[Any] = []
        self._retains = False

    @classmethod
    def written(cls, value: Value, step: Step | None) -> Self:
        """Return the handle of a value that an operation wrote; without a step nobody recorded that."""
        self = cls.__new__(cls)
        if step is None:
            value = Value(id=value.id, data=value.data, role=value.role, name=value.name)
        self._value, self._step = value, step
        self._grad, self._retains = [], False
        return self

    # ---- the value

    @property
    def id(self) -> str:
        """The id of the value it has now."""
        return self._value.id

    @property
    def name(self) -> str:
        """What all its values have in common: the name it was given, or the id of its first value."""
        return self._value.name or self._value.id

    @property
    def role(self) -> str:
        """What it is for, in words."""
        return self._value.role

    @role.setter
    def role(self, role: str) -> None:
        if self._step is not None:
            raise RuntimeError("the role of what an operation wrote is recorded; give a leaf another one")
        self._replace(role=values.words(role, "role"))

    @property
    def data(self) -> Any:
        """The scalar, or a new list of the batch's items.

        On a leaf, data that is assigned begins a new value. On what an operation wrote it must have the same shape,
        and is recorded as an edit, so that a model hears what its text was made into.
        """
        held = self._value.data
        return list(held) if isinstance(held, tuple) else held

    @data.setter
    def data(self, data: values.Data) -> None:
        normal = values.value_of(data)
        if self._step is None:
            self._replace(data=normal)
        else:
            values.check_same_length(normal, self._value.data)
            from backtalk.autodiff.operations import edited  # noqa: PLC0415  operations make Variables

            self._value, self._step = edited(self, normal)

    def copy_(self, source: Variable) -> Self:
        """Take the data of another Variable of the same shape, as if it were assigned.

        Raises TypeError for what is no Variable, ValueError for data of another shape.
        """
        if not isinstance(source, Variable):
            raise TypeError(f"copy_ takes a Variable, not {type(source).__name__}; assign `data` instead")
        values.check_same_length(source._value.data, self._value.data)
        self.data = source.data
        return self

    def detach(self) -> Variable:
        """Return a leaf with the same data that no gradient passes through."""
        return Variable(self.data, self.role)

    def read(self) -> Read:
        """Return what an operation reads of it now."""
        return Read(self, self._value, self._step)

    def _replace(self, **changes: Any) -> None:
        """Begin a new value: an id names one value for ever."""
        self._value = self._value.model_copy(update={"id": new_id(), "name": self.name, **changes})

    # ---- feedback

    def backward(
        self,
        gradient: Variable | None = None,
        retain_graph: bool | None = None,  # noqa: FBT001
        create_graph: bool = False,  # noqa: FBT001, FBT002
        inputs: Variable | Sequence[Variable] | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        """Turn feedback on this Variable into gradients of the leaves it was computed from, appended to their `grad`.

        >>> task = Variable("Add the numbers", role="task", requires_grad=True)
        >>> prompt = task + Variable(" and show your work.", role="format")
        >>> prompt.backward(Variable("Say which numbers.", role="feedback"))
        >>> [gradient.data for gradient in task.grad]
        ['Said of "task and format", of which this text is a part: Say which numbers.']

        `gradient` is the feedback: one text, or for a batch one text for each item or one for all; an evaluation needs
        none. `inputs` are the leaves to differentiate, by default all that require a gradient. The graph serves once,
        unless `retain_graph`. Gradients are texts and no operations: `create_graph` must be False. What the items of a
        batch share has one gradient, with `policy={"batch": "per_sample"}` one for each; docs/wire.md tells of others.

        Raises RuntimeError where there is nothing to go back through, a second time through the same graph, and for
        `inputs` that are no leaves; Refused where the worker could not do it. What failed in part is told in a
        PartialWarning.
        """
        from backtalk.autodiff.backward import backward  # noqa: PLC0415  it reads Variables

        backward([self], [gradient], retain_graph, create_graph, inputs, policy)

    async def abackward(
        self,
        gradient: Variable | None = None,
        retain_graph: bool | None = None,  # noqa: FBT001
        create_graph: bool = False,  # noqa: FBT001, FBT002
        inputs: Variable | Sequence[Variable] | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        """Do what `backward` does, without blocking the event loop."""
        from backtalk.autodiff.backward import abackward  # noqa: PLC0415  it reads Variables

        await abackward([self], [gradient], retain_graph, create_graph, inputs, policy)

    def graph(self) -> Tape:
        """Return all that led to this Variable, with the gradients found so far. A notebook draws it.

        >>> tape = (Variable("a", requires_grad=True) + Variable("b")).graph()
        >>> [operation.op for operation in tape.graph.operations]
        ['add']
        """
        from backtalk.autodiff.tape import tape_of  # noqa: PLC0415  it reads Variables

        return tape_of([self])

    # ---- as an object

    def __add__(self, other: Variable) -> Variable:
        from backtalk.autodiff.operations import add  # noqa: PLC0415  operations make Variables

        return add(self, other)

    def __radd__(self, other: object) -> Variable:
        raise TypeError(
            f"only Variables can be added to each other; wrap the {type(other).__name__} in Variable(…), "
            "and use backtalk.functional.sum for several"
        )

    def __str__(self) -> str:
        return values.short(self._value.data)

    def __repr__(self) -> str:
        data = self._value.data
        shown = repr(values.short(data)) if isinstance(data, str) else values.short(data)
        wants = ", requires_grad=True" if self.requires_grad else ""
        return f"{type(self).__name__}({shown}, role={self.role!r}{wants})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if self._step is not None:
            raise RuntimeError("only leaves can be copied deeply; use detach() for what an operation wrote")
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        value = self._value.model_copy(update={"id": new_id(), "name": None})
        copied.__dict__.update(self.__dict__, _value=value, _grad=list(self._grad))
        return copied

    def __copy__(self) -> Self:
        return self.__deepcopy__({})


class Parameter(Variable):
    """A Variable that requires a gradient, and that a Module counts among its own.

    >>> Parameter("Be brief.", role="system prompt")
    Parameter('Be brief.', role='system prompt', requires_grad=True)
    """

    def __init__(
        self,
        data: values.Data = "",
        role: str = "",
        requires_grad: bool = True,  # noqa: FBT001, FBT002
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(data, role, requires_grad, name=name)


class Gradient(Variable):
    """Criticism of a value: its text, and in `entry` the operation, input, sample and feedback it comes from.

    `about` is the id of the value; `item` the item of the program's batch that it concerns, None where it concerns all.
    """

    def __init__(self, entry: Entry, about: str, start: int = 0) -> None:
        super().__init__(entry.text, entry.role)
        self.entry = entry
        self.about = about
        self.item = None if entry.sample is None else start + entry.sample
