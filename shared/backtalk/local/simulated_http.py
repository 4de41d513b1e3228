"""How the simulated model answers over HTTP: whole or in pieces, cut off or stalled, errors as OpenAI's."""

import asyncio
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from backtalk.local.simulated_completion import CREATED
from backtalk.local.simulated_rules import Answer, Rule, refusal


async def send(http: web.Request, given: Answer, rule: Rule | None = None) -> web.StreamResponse:
    rule = rule or Rule()
    headers = {"Content-Type": given.content_type, **given.headers}
    if not given.events and not rule.cut:
        return web.Response(status=given.status, headers=headers, body=given.frames[0])
    response = web.StreamResponse(status=given.status, headers=headers)
    if not given.events:
        response.content_length = len(given.frames[0])
    await response.prepare(http)
    for frame in _first_half(given.frames) if rule.cut else given.frames:
        await response.write(frame)
        await asyncio.sleep(rule.pause)
    if rule.stall:
        await asyncio.Event().wait()
    if rule.cut and http.transport:
        http.transport.close()
    return response


def _first_half(frames: Sequence[bytes]) -> Sequence[bytes]:
    whole = b"".join(frames)
    return [whole[: len(whole) // 2]]


async def mark(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["x-simulated-model"] = "true"


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """OpenAI's error object for what aiohttp refuses by itself: unknown paths, wrong methods, huge bodies."""
    try:
        return await handler(request)
    except web.HTTPException as refused:
        message = f"{request.method} {request.path}: {refused.reason}. Use POST /v1/chat/completions"
        return await send(request, refusal(refused.status, message))


async def list_models(_: web.Request) -> web.Response:
    model = {"id": "simulated", "object": "model", "created": CREATED, "owned_by": "simulated"}
    return web.json_response({"object": "list", "data": [model]})


async def report_health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "simulated": True})
