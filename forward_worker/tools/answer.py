"""Calls as OpenAI writes them: what a reply was read to say, put into its choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backtalk.wire.choice import Choice
from backtalk.wire.identity import derive
from forward_worker.tools.reading import Call, Fault, Reading


def faults(reading: Reading, choice: Choice, native: Sequence[Any]) -> list[tuple[str, Fault]]:
    """Return the calls that cannot be used, by their text, and why; a call that was demanded and is not there too."""
    found = [(problem.text, problem.fault) for problem in reading.problems]
    if not found and not reading.calls and not native and choice.kind in ("required", "function"):
        which = f"of {choice.name} " if choice.name else ""
        found.append(("", Fault("no_call", f"a call {which}was demanded, and there is none")))
    return found


def with_calls(
    choice: Mapping[str, Any], reading: Reading, wanted: Choice, key: str, place: tuple[int, int]
) -> dict[str, Any]:
    """Return a choice with its calls apart from its text, and what is wrong with those that could not be taken."""
    answered = dict(choice)
    # an endpoint may make calls of its own, whatever it was sent
    native = choice["message"].get("tool_calls") or []
    if reading.calls:
        calls = [openai_call(call, call_id(key, place, at)) for at, call in enumerate(reading.calls)]
        answered["message"] = {
            **choice["message"],
            "content": reading.content,
            "tool_calls": [*native, *calls],
        }
        answered["finish_reason"] = finish_reason(choice.get("finish_reason"))
    if problems := faults(reading, wanted, native):
        answered["tool_call_errors"] = [
            {"text": text, "reason": fault.reason, "detail": fault.detail} for text, fault in problems
        ]
    return answered


def openai_call(call: Call, id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def call_id(key: str, place: tuple[int, int], at: int) -> str:
    """Return the id of a call, the same for the same work: `place` is its item and its choice."""
    return f"call_{derive(key, f'calls/{place[0]}/{place[1]}/{at}')[:24]}"


def finish_reason(reason: str | None) -> str | None:
    """Return why a reply with calls ended; one that was cut off stays so."""
    return "tool_calls" if reason in (None, "stop") else reason
