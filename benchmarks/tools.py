"""Tools in prompts: what 20 of them cost a job, from its decoded body to the body that is sent, and back again."""

import gc
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from backtalk.wire.codec import validate
from backtalk.wire.identity import work_key
from backtalk.wire.jobs import CompletionJob
from benchmarks.broker import Stage
from benchmarks.table import Row
from forward_worker.plan import Plan
from forward_worker.tools.answer import with_calls
from forward_worker.tools.inject import toolbox
from forward_worker.tools.parse import read

TOOLS = 20
CALLS = 2
ROUNDS = 300
REPEATS = 5


async def tools(_: Stage) -> list[Row]:
    """Pure work, so it needs neither broker nor endpoint."""
    boxed = toolbox(None, {})
    plain = validate(body([]), CompletionJob)
    job = validate(body([tool(at) for at in range(TOOLS)]), CompletionJob)
    keys = [work_key(str(at), b"") for at in range(ROUNDS)]
    reply = {"index": 0, "message": {"role": "assistant", "content": said()}, "finish_reason": "stop"}
    plan = Plan.of(job, keys[0], boxed)

    def inject(which: CompletionJob) -> Callable[[], None]:
        return lambda: [Plan.of(which, key, boxed).body(None) for key in keys] and None

    def parse() -> None:
        for key in keys:
            reading = read(reply["message"]["content"], plan.words.call_token, plan.tooling.known.checking())
            with_calls(reply, reading, plan.tooling.choice, key, (0, 0))

    injecting = microseconds(inject(job))
    parsing = microseconds(parse)
    name = f"a job with {TOOLS} tools and {CALLS} calls"
    return [
        Row(
            f"{name}: plan and render, CPU µs (without tools {microseconds(inject(plain)):.0f})",
            f"{injecting:.0f}",
        ),
        Row(f"{name}: read the calls, CPU µs", f"{parsing:.0f}"),
        Row(f"{name}: both, CPU µs", f"{injecting + parsing:.0f}"),
    ]


def microseconds(run: Callable[[], None]) -> float:
    """The median processor time of one round."""
    return median(once(run) for _ in range(REPEATS)) / ROUNDS * 1e6


def once(run: Callable[[], None]) -> float:
    gc.collect()
    began = time.process_time()
    run()
    return time.process_time() - began


def body(tools: list[dict[str, Any]]) -> dict[str, Any]:
    system = {"data": "You are a helpful assistant.", "id": "system", "requires_grad": True}
    messages = [
        {"role": "system", "content": [system]},
        {"role": "user", "content": "What is the weather in Paris?"},
    ]
    return {"model": "gpt-4o", "messages": messages, **({"tools": tools} if tools else {})}


def tool(at: int) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and the country, e.g. Rome, Italy"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "description": "How many days to look ahead", "minimum": 1},
        },
        "required": ["location"],
    }
    description = f"Get measurement number {at} of the weather in a given location"
    function = {"name": f"get_measurement_{at}", "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def said() -> str:
    """A reply of ordinary length that ends in calls."""
    calls = [
        {"name": f"get_measurement_{at}", "arguments": {"location": "Paris, France", "days": at + 1}}
        for at in range(CALLS)
    ]
    lines = [f"!function_call:{json.dumps(call)}" for call in calls]
    return "\n".join(["I will look that up for you. " * 10, *lines])
