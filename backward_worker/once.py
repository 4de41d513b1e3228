"""Work that several wait for, done by the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Does its work when the first one asks for it; everybody gets what came out. No task of its own, so none is left."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._done: list[T] = []

    async def get(self) -> T:
        async with self._turn:
            if not self._done:
                self._done.append(await self._work())
        return self._done[0]
