"""A Python function as a step of a program: only its words are recorded, and feedback flows through it, or its failure."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from backtalk.autodiff.recording import Begun
from backtalk.autodiff.reply import sendable
from backtalk.autodiff.variable import Variable
from backtalk.wire.operations import Function as Recorded

Transmit: TypeAlias = Literal["verbatim", "model"]
Tried: TypeAlias = tuple[Any, Exception | None]


class FunctionFailed(Exception):
    """A function of the program raised. `output` is the Variable that holds the error: feedback on it goes on from there.

    In a batch, `output` also holds what the function returned for the other items.
    """

    def __init__(self, message: str, output: Variable) -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True, slots=True)
class _Given:
    """The arguments of one call: what is recorded, and constants that no model can be shown, which are not."""

    variables: Mapping[str, Variable]
    constants: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, arguments: Mapping[str, Any]) -> _Given:
        """Return arguments told apart. Raises TypeError where nothing is left for a gradient to pass to."""
        variables = {
            one: value if isinstance(value, Variable) else Variable(value, role=one)
            for one, value in arguments.items()
            if isinstance(value, Variable | str | int | float)
        }
        if not variables:
            raise TypeError(f"{name} gets no Variable, so no gradient can pass through it; call it directly")
        return cls(variables, {one: value for one, value in arguments.items() if one not in variables})

    def filled(self, items: Sequence[Any]) -> dict[str, Any]:
        """Return all arguments, with one item of each Variable."""
        return {**dict(zip(self.variables, items, strict=True)), **self.constants}


class Function:
    """A function whose arguments and result are Variables; made by `function`."""

    def __init__(
        self, call: Callable[..., Any], description: str, transmit: Transmit | None, role: str | None
    ) -> None:
        if transmit not in (None, "verbatim", "model"):
            raise ValueError(f"transmit is {transmit!r}; it must be 'verbatim' or 'model'")
        self._call = call
        self._signature = inspect.signature(call)
        if any(
            one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in self._signature.parameters.values()
        ):
            raise TypeError(
                f"{call.__name__}: parameters need names, so *args and **kwargs cannot be recorded"
            )
        self.name = call.__name__
        self.description = description
        self.transmit = transmit
        self.role = role or f"output of {call.__name__}"
        functools.update_wrapper(self, call)

    def __call__(self, *args: Any, **kwargs: Any) -> Variable:
        """Call it with the data of each argument, of batches item by item, and record that.

        Texts and numbers become Variables; other arguments are constants, which are not recorded. Raises FunctionFailed
        where the function raised.
        """
        if inspect.iscoroutinefunction(self._call):
            raise TypeError(f"{self.name} is a coroutine function; await {self.name}.acall(…)")
        given = self._given(args, kwargs)
        begun = Begun.reading(given.variables.values())
        return self._finish(given, begun, begun.each(lambda *items: self._try(given, items), broadcast=True))

    async def acall(self, *args: Any, **kwargs: Any) -> Variable:
        """Do the same, awaiting what a coroutine function returns, of batches one item after the other."""
        given = self._given(args, kwargs)
        begun = Begun.reading(given.variables.values())
        each = begun.each(lambda *items: items, broadcast=True)
        if isinstance(each, list):
            tried = [None if items is None else await _awaited(*self._try(given, items)) for items in each]
            return self._finish(given, begun, tried)
        return self._finish(given, begun, await _awaited(*self._try(given, each)))

    def _given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Given:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return _Given.of(self.name, bound.arguments)

    def _try(self, given: _Given, items: Sequence[Any]) -> Tried:
        told = inspect.BoundArguments(self._signature, given.filled(items))
        try:
            return self._call(*told.args, **told.kwargs), None
        except Exception as error:  # noqa: BLE001  the program's own, raised again once it is recorded
            return None, error

    def __get__(self, instance: object, owner: type | None = None) -> Function:
        """Return the function as a method of an instance: its own parameters do not count `self`."""
        if instance is None:
            return self
        return Function(self._call.__get__(instance), self.description, self.transmit, self.role)

    def _finish(self, given: _Given, begun: Begun, tried: Any) -> Variable:
        results = tried if isinstance(tried, list) else [tried]
        for result in results:
            _check_result(self.name, result)
        failures = [result and result[1] for result in results]
        data = [result and (_told(result[1]) if result[1] else result[0]) for result in results]
        errors = tuple(failure and _told(failure) for failure in failures)
        (output,) = begun.wrote(
            Recorded,
            (data if isinstance(tried, list) else data[0],),
            (self.role,),
            mixed=any(errors),
            name=self.name,
            description=self.description,
            parameters=tuple(given.variables),
            transmit=self.transmit or ("verbatim" if len(given.variables) == 1 else "model"),
            errors=errors if any(errors) else None,
        )
        first = next((failure for failure in failures if failure), None)
        if first is not None:
            raise FunctionFailed(f"{self.name} failed: {_told(first)}", output) from first
        return output


def function(
    description: str, *, transmit: Transmit | None = None, role: str | None = None
) -> Callable[[Callable[..., Any]], Function]:
    """Make a Python function a step of the program: it takes Variables and returns one.

    >>> @function("Returns what stands between the first quotes.")
    ... def quoted(reply: str) -> str:
    ...     return reply.split("'")[1]
    >>> quoted(Variable("He said 'yes'.")).data
    'yes'

    The description says what it does, for the model that writes gradients; nothing of its code is sent. A gradient
    passes `verbatim` where there is one input, otherwise by a question to that `model`; `transmit` says it otherwise.
    The function gets data and returns a text or a number; of a batch it is called for each item. Where it raises, that
    is recorded, and FunctionFailed holds the Variable to give feedback on. Use `acall` with a coroutine function.
    """
    if not isinstance(description, str):
        raise TypeError('write @function("what it does, in words"), with brackets')
    return lambda call: Function(call, description, transmit, role)


def _check_result(name: str, result: Tried | None) -> None:
    """Refuse what no Variable of one value can hold. Raises TypeError."""
    if result is not None and result[1] is None and not isinstance(result[0], str | int | float):
        raise TypeError(
            f"{name} returned {type(result[0]).__name__}; it must return a text or a number for each item"
        )


async def _awaited(result: Any, error: Exception | None) -> Tried:
    """Return what a call came to, once what is awaited is there."""
    try:
        return (await result if inspect.isawaitable(result) else result), error
    except Exception as failed:  # noqa: BLE001  the program's own, raised again once it is recorded
        return None, failed


def _told(error: Exception) -> str:
    return sendable(f"{type(error).__name__}: {error}")
