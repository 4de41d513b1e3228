"""Whether operations are recorded: for the running thread or task, as a context manager and as a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Self, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# the blocks that the running thread or task is in, the innermost last; objects that open them keep nothing
_MODES: Final[ContextVar[tuple[bool, ...]]] = ContextVar("backtalk_grad_modes", default=(True,))


def is_grad_enabled() -> bool:
    """Tell whether operations are being recorded. A new thread begins with yes, a new task as the one that made it.

    >>> is_grad_enabled()
    True
    """
    return _MODES.get()[-1]


class set_grad_enabled:  # noqa: N801  named like the function it is used as
    """Record operations, or do not, within a `with` block or a decorated function, coroutines included.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:  # noqa: FBT001  the one thing it is about
        self._mode = mode

    def __enter__(self) -> Self:
        _MODES.set((*_MODES.get(), self._mode))
        return self

    def __exit__(self, *exc: object) -> None:
        _MODES.set(_MODES.get()[:-1])

    def __call__(self, function: F) -> F:
        mode = self._mode
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__name__} is a generator, which runs while others do; write the with block inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with set_grad_enabled(mode):
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(mode):
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]


class _Fixed(set_grad_enabled):
    """A mode of its own name, which decorates with brackets and without."""

    mode: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: Callable[..., Any] | None = None) -> None:  # noqa: ARG002  see __new__
        super().__init__(self.mode)


class no_grad(_Fixed):  # noqa: N801  named like the function it is used as
    """Record nothing: what is computed within requires no gradient and has no `grad_fn`.

    >>> from backtalk import Variable
    >>> prompt = Variable("Be brief.", role="prompt", requires_grad=True)
    >>> with no_grad():
    ...     (prompt + Variable(" Be kind.")).requires_grad
    False
    """

    mode = False


class enable_grad(_Fixed):  # noqa: N801  named like the function it is used as
    """Record again, inside of `no_grad`."""

    mode = True
