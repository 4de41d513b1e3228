"""A Python function as a step of a program: only its words are recorded, and feedback flows through it, or its failure."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, ParamSpec, TypeAlias

from backtalk.autodiff.recording import Begun
from backtalk.autodiff.variable import Variable
from backtalk.wire.operations import Function as Recorded

P = ParamSpec("P")
Transmit: TypeAlias = Literal["verbatim", "model"]
Tried: TypeAlias = tuple[Any, Exception | None]


class FunctionFailed(Exception):
    """A function of the program raised. `output` is the Variable that holds the error: feedback on it goes on from there.

    In a batch, `output` also holds what the function returned for the other items.
    """

    def __init__(self, message: str, output: Variable) -> None:
        super().__init__(message)
        self.output = output


class Function(Generic[P]):
    """A function whose arguments and result are Variables; made by `function`."""

    def __init__(
        self, call: Callable[P, Any], description: str, transmit: Transmit | None, role: str | None
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

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Variable:
        """Call it with the data of each argument, of batches item by item, and record that.

        Arguments that are no Variables become some. Raises FunctionFailed where the function raised.
        """
        if inspect.iscoroutinefunction(self._call):
            raise TypeError(f"{self.name} is a coroutine function; await {self.name}.acall(…)")
        given = self._given(args, kwargs)
        begun = Begun.reading(given.values())
        return self._finish(given, begun, begun.each(lambda *items: self._try(given, items), broadcast=True))

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> Variable:
        """Do the same, awaiting what a coroutine function returns, of batches one item after the other."""
        given = self._given(args, kwargs)
        begun = Begun.reading(given.values())
        tried = begun.each(lambda *items: self._try(given, items), broadcast=True)
        if isinstance(tried, list):
            return self._finish(given, begun, [one and await _awaited(*one) for one in tried])
        return self._finish(given, begun, await _awaited(*tried))

    def _given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Variable]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if not bound.arguments:
            raise TypeError(
                f"{self.name} takes no arguments, so no gradient can pass through it; call it directly"
            )
        return {
            name: value if isinstance(value, Variable) else Variable(value, role=name)
            for name, value in bound.arguments.items()
        }

    def _try(self, given: Mapping[str, Variable], items: Sequence[Any]) -> Tried:
        told = inspect.BoundArguments(self._signature, dict(zip(given, items, strict=True)))
        try:
            return self._call(*told.args, **told.kwargs), None
        except Exception as error:  # noqa: BLE001  the program's own, raised again once it is recorded
            return None, error

    def _finish(self, given: Mapping[str, Variable], begun: Begun, tried: Any) -> Variable:
        results = tried if isinstance(tried, list) else [tried]
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
            parameters=tuple(given),
            transmit=self.transmit or ("verbatim" if len(given) == 1 else "model"),
            errors=errors if any(errors) else None,
        )
        first = next((failure for failure in failures if failure), None)
        if first is not None:
            raise FunctionFailed(f"{self.name} failed: {_told(first)}", output) from first
        return output


def function(
    description: str, *, transmit: Transmit | None = None, role: str | None = None
) -> Callable[[Callable[P, Any]], Function[P]]:
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
    return lambda call: Function(call, description, transmit, role)


async def _awaited(result: Any, error: Exception | None) -> Tried:
    """Return what a call came to, once what is awaited is there."""
    try:
        return (await result if inspect.isawaitable(result) else result), error
    except Exception as failed:  # noqa: BLE001  the program's own, raised again once it is recorded
        return None, failed


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
