"""Whether operations are recorded: for the running thread or task, as a context manager and as a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Final, Self, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_ENABLED: Final[ContextVar[bool]] = ContextVar("backtalk_grad_enabled", default=True)


def is_grad_enabled() -> bool:
    """Tell whether operations are being recorded. A new thread begins with yes, a new task as the one that made it.

    >>> is_grad_enabled()
    True
    """
    return _ENABLED.get()


class set_grad_enabled:  # noqa: N801  named like the function it is used as
    """Record operations, or do not, within a `with` block or a decorated function, coroutines included.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:  # noqa: FBT001  the one thing it is about
        self._mode = mode
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_ENABLED.set(self._mode))
        return self

    def __exit__(self, *exc: object) -> None:
        _ENABLED.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        mode = self._mode
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


class no_grad(set_grad_enabled):  # noqa: N801  named like the function it is used as
    """Record nothing: what is computed within requires no gradient and has no `grad_fn`.

    >>> from backtalk import Variable
    >>> prompt = Variable("Be brief.", role="prompt", requires_grad=True)
    >>> with no_grad():
    ...     (prompt + Variable(" Be kind.")).requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(mode=False)


class enable_grad(set_grad_enabled):  # noqa: N801  named like the function it is used as
    """Record again, inside of `no_grad`."""

    def __init__(self) -> None:
        super().__init__(mode=True)
