"""The endpoint of a run: it writes down every call by the token of its prompt, and fails for a while when told to.

A call is paid for when its answer was written to the end, whether or not the worker that asked was still there.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from random import Random
from typing import Final, Self

from aiohttp import web

from backtalk.local.simulated_completion import read_request
from backtalk.local.simulated_http import send
from backtalk.local.simulated_rules import Rule, answer, refusal
from benchmarks.chaos.messages import tokens

LATENCY_SECONDS: Final = (0.05, 0.4)
# longer than a worker waits
STALL_SECONDS: Final = 8.0
_GOODBYE_SECONDS: Final = 0.1
_LARGEST_BODY: Final = 2**24
_WELL: Final = Rule()


@dataclass(slots=True)
class Call:
    """One call of a worker, which is known by its key; `paid` is when its answer was complete, or None."""

    token: str
    worker: str
    begun: float
    paid: float | None = None


class Endpoint:
    """An OpenAI-compatible server on a free port, listening between `async with` and its end."""

    def __init__(self, rng: Random) -> None:
        self.calls: list[Call] = []
        self.refusals = 0
        self._rng = rng
        self._rule = _WELL
        self._until = 0.0

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_post("/v1/chat/completions", self._complete)
        application.router.add_get("/v1/models", self._list)
        # a call goes on when its worker is gone: it is paid for all the same
        self._runner = web.AppRunner(
            application, shutdown_timeout=_GOODBYE_SECONDS, handler_cancellation=False, access_log=None
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def trouble(self, rule: Rule, seconds: float) -> None:
        """Answer by this rule for so long."""
        self._rule, self._until = rule, time.monotonic() + seconds

    def well(self) -> None:
        self._until = 0.0

    @property
    def _in_force(self) -> Rule:
        return self._rule if time.monotonic() < self._until else _WELL

    async def _complete(self, http: web.Request) -> web.StreamResponse:
        text = await http.text()
        body = json.loads(text)
        request = read_request(body)
        rule = self._in_force
        call = Call(tokens(request.text), _worker(http), time.monotonic())
        self.calls.append(call)
        await asyncio.sleep(self._rng.uniform(*LATENCY_SECONDS))
        if rule.stall:
            await asyncio.sleep(STALL_SECONDS)
        fails = rule.is_error or rule.cut or rule.stall
        self.refusals += fails
        try:
            return await send(http, answer(body, request, rule), rule)
        finally:
            if not fails:
                call.paid = time.monotonic()

    async def _list(self, http: web.Request) -> web.StreamResponse:
        if self._in_force.status == 401:
            return await send(http, refusal(401, "The key is refused for a while"))
        return web.json_response({"object": "list", "data": [{"id": "chaos", "object": "model"}]})


def _worker(http: web.Request) -> str:
    return http.headers.get("Authorization", "").removeprefix("Bearer ")
