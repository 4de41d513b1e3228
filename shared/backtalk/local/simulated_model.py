"""An OpenAI-compatible HTTP server for demos and tests: it asks no model, says so, and fails when told to."""

import argparse
import asyncio
import json
import signal
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from backtalk.local.simulated_completion import Json, read_request
from backtalk.local.simulated_http import errors_as_json, list_models, mark, report_health, send
from backtalk.local.simulated_rules import Rule, Rules, answer, read_rules, refusal

__all__ = ["Call", "Rule", "SimulatedModel", "main"]

_CALLS_KEPT = 1000
_LARGEST_BODY = 64 * 2**20
_GOODBYE_SECONDS = 0.1  # what a request in progress gets at the end: stalled ones never finish


@dataclass(frozen=True)
class Call:
    """One request as it came in; `arguments` is the rest of its body, `status` that of its answer."""

    model: str
    messages: list[Json]
    arguments: Json
    status: int


class SimulatedModel:
    """The server, listening between `async with` and its end; port 0 takes a free one."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        latency: float = 0.0,
        api_key: str | None = None,
    ) -> None:
        self.api_key = api_key
        self._host = host
        self._port = port
        self._latency = latency
        self._rules = Rules()
        self.reset()

    async def __aenter__(self) -> Self:
        # A stalled request must notice that its client has left.
        options: dict[str, Any] = {"handler_cancellation": True, "access_log": None}
        self._runner = web.AppRunner(self._application(), shutdown_timeout=_GOODBYE_SECONDS, **options)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=1024).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/v1"

    @property
    def calls(self) -> tuple[Call, ...]:
        """The last calls, in the order they arrived; `total` counts the older ones too."""
        return tuple(self._calls)

    def reset(self) -> None:
        """Forget all calls and all rules."""
        self.total = 0
        self.refused = 0
        self._calls: deque[Call] = deque(maxlen=_CALLS_KEPT)
        self._rules.replace([])

    def rule(self, **fields: Any) -> Rule:
        """Add a rule behind those in force."""
        rule = Rule(**fields)
        self._rules.add(rule)
        return rule

    def _application(self) -> web.Application:
        application = web.Application(
            client_max_size=_LARGEST_BODY, middlewares=[errors_as_json, self._only_with_key]
        )
        application.on_response_prepare.append(mark)
        application.router.add_post("/v1/chat/completions", self._complete)
        application.router.add_get("/v1/models", list_models)
        application.router.add_get("/healthz", report_health)
        application.router.add_get("/control/calls", self._show_calls)
        application.router.add_post("/control/reset", self._reset)
        application.router.add_post("/control/rules", self._set_rules)
        return application

    @web.middleware
    async def _only_with_key(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse whoever has not the key, where there is one."""
        wanted = f"Bearer {self.api_key}"
        if (
            self.api_key is None
            or not request.path.startswith("/v1/")
            or request.headers.get("Authorization") == wanted
        ):
            return await handler(request)
        self.refused += 1
        return await send(request, refusal(401, "The key is missing, or not the one of this simulated model"))

    async def _complete(self, http: web.Request) -> web.StreamResponse:
        try:
            text = await http.text()
            body = json.loads(text)
            request = read_request(body)
        except ValueError as malformed:
            self._count(Call("", [], {}, 400))
            return await send(http, refusal(400, f"This is no chat-completions request: {malformed}"))
        rule = self._rules.use(text, request)
        # Counted before the answer goes out, so that a client which has it can rely on the count.
        self._count(_call(body, rule))
        await asyncio.sleep(self._latency + rule.delay)
        if rule.stall and not rule.cut:
            await asyncio.Event().wait()
        return await send(http, answer(body, request, rule), rule)

    def _count(self, call: Call) -> None:
        self.total += 1
        self._calls.append(call)

    async def _show_calls(self, _: web.Request) -> web.Response:
        return web.json_response({"total": self.total, "calls": [vars(call) for call in self._calls]})

    async def _reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({"total": 0})

    async def _set_rules(self, http: web.Request) -> web.StreamResponse:
        """Put the rules of the body in the place of those in force."""
        try:
            rules = read_rules(await http.text())
        except ValueError as malformed:
            return await send(http, refusal(400, str(malformed)))
        self._rules.replace(rules)
        return web.json_response({"rules": len(rules)})


def _call(body: Json, rule: Rule) -> Call:
    """A call that is never answered has status 0."""
    arguments = {name: value for name, value in body.items() if name not in ("model", "messages")}
    return Call(body["model"], body["messages"], arguments, 0 if rule.stall else rule.status or 200)


# ---- the command

_EXAMPLES = """
examples:
  python -m backtalk.local.simulated_model
  python -m backtalk.local.simulated_model --host 0.0.0.0 --port 8080 --latency 0.2
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none python my_program.py
  curl -d '[{"status": 429, "retry_after": 1, "times": 2}]' http://127.0.0.1:8080/control/rules
"""


def _model(given: argparse.Namespace) -> SimulatedModel:
    return SimulatedModel(given.host, given.port, latency=given.latency, api_key=given.api_key)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m backtalk.local.simulated_model",
        description="Serve an OpenAI-compatible API with simulated replies, for demos and tests.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8080, help="port; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--api-key", help="the one key that is taken (default: any, or none)")
    parser.add_argument(
        "--latency", type=_seconds, default=0.0, help="seconds before a reply (default: %(default)s)"
    )
    return parser.parse_args(argv)


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 up")
    return seconds


async def _serve(model: SimulatedModel) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with model:
        sys.stdout.write(f"simulated model on {model.base_url}\n")
        sys.stdout.flush()
        await stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    given = _arguments(argv)
    try:
        asyncio.run(_serve(_model(given)))
    except OSError as refused:
        sys.stderr.write(f"cannot listen on {given.host}:{given.port}; choose another --port ({refused})\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
