"""The two ways to take a step: blocking, and without blocking the event loop. What is done is the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from backtalk.autodiff.session import current
from backtalk.autodiff.variable import Variable
from backtalk.client import Client

T = TypeVar("T")


class Optimizer(Protocol):
    """What `configure_optimizers` returns, `backtalk.optim.TGD` for one."""

    def clear_grad(self) -> None: ...

    def step(self) -> Any: ...

    async def astep(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Doing(Protocol):
    """How a step is called, and what follows from it."""

    async def call(self, function: Callable[..., Any], *args: Any) -> Any: ...

    async def backward(self, start: Variable) -> None: ...

    async def step(self, optimizer: Optimizer) -> None: ...


class Blocking:
    """Does everything at once, in the thread it is called from; its coroutines never wait."""

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        returned = function(*args)
        return _waited_for(returned) if inspect.isawaitable(returned) else returned

    async def backward(self, start: Variable) -> None:
        start.backward()

    async def step(self, optimizer: Optimizer) -> None:
        optimizer.step()


class Awaiting:
    """Leaves the event loop to others meanwhile; functions that block run in a thread."""

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        returned = await asyncio.to_thread(function, *args)
        return await returned if inspect.isawaitable(returned) else returned

    async def backward(self, start: Variable) -> None:
        await start.abackward()

    async def step(self, optimizer: Optimizer) -> None:
        await optimizer.astep()


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits, as those of `Blocking`: no event loop is needed."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("this waits for something; call the awaitable twin (afit, avalidate, atest)")


def _waited_for(returned: Any) -> Any:
    async def awaited(_: Client) -> Any:
        return await returned

    return current().run(awaited)
