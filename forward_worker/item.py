"""One item of a job: ask, read the calls out of the reply, ask again where they cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from backtalk.prompt import FailedItem
from backtalk.runtime.emit import Emit
from backtalk.runtime.model import Completion, Model
from backtalk.wire.errors import BacktalkError, Error, invalid
from backtalk.wire.tools import Turn
from backtalk.wire.usage import total
from forward_worker.narrate import Narrator
from forward_worker.plan import Plan
from forward_worker.record import reply
from forward_worker.tools.answer import faults, with_calls
from forward_worker.tools.known import Known
from forward_worker.tools.parse import read
from forward_worker.tools.reading import Reading

# of what is wrong with a reply, as much as a model can use
MAX_TOLD: Final = 10


@dataclass(frozen=True, slots=True)
class Item:
    """One sample of a job: its completion, what the model said for each choice, and the turns it took; or an error."""

    completion: dict[str, Any] | None = None
    replies: tuple[str, ...] = ()
    usages: tuple[Mapping[str, Any], ...] = ()
    turns: tuple[Turn, ...] = ()
    error: Error | None = None

    @property
    def answer(self) -> dict[str, Any]:
        """What stands in the result for it."""
        if self.completion is not None:
            return self.completion
        assert self.error is not None
        return {"error": self.error.model_dump(mode="json")}


async def complete_one(plan: Plan, sample: int | None, *, model: Model, emit: Emit) -> Item:
    """Return one item of a job; its failure is its own."""
    narrator = Narrator(plan, sample or 0, emit) if plan.job.stream else None
    try:
        body = plan.body(sample)
        completion = await model.complete(plan.endpoint, body, narrator, place=_place(sample))
    except FailedItem as failed:
        return Item(error=invalid("inputs", str(failed)).error)
    except BacktalkError as failed:
        return Item(error=failed.error)
    if plan.tooling.known is None:
        replies = tuple(reply(choice["message"]) for choice in _in_order(completion))
        return Item(completion.body, replies, (completion.usage,))
    return await _with_calls(_Asked(plan, sample, body, plan.tooling.known), completion, model)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an item sent, and the functions that the replies to it may call."""

    plan: Plan
    sample: int | None
    body: Mapping[str, Any]
    known: Known

    def read(self, choice: Mapping[str, Any]) -> Reading:
        text = choice["message"].get("content") or ""
        return read(text, self.plan.words.call_token, self.known.checking())


@dataclass(frozen=True, slots=True)
class _Settled:
    """A choice with its calls read: as it is answered, and what it took to get there."""

    choice: dict[str, Any]
    said: str
    usages: tuple[Mapping[str, Any], ...]
    turns: tuple[Turn, ...]


async def _with_calls(asked: _Asked, completion: Completion, model: Model) -> Item:
    """Return an item whose calls are read, each choice by itself."""
    settled = await asyncio.gather(*(_settle(asked, choice, model) for choice in _in_order(completion)))
    usages = (completion.usage, *(usage for one in settled for usage in one.usages))
    body = {**completion.body, "choices": [one.choice for one in settled]}
    if len(usages) > 1:
        body["usage"] = total(usages)
    turns = tuple(turn for one in settled for turn in one.turns)
    return Item(body, tuple(one.said for one in settled), usages, turns)


async def _settle(asked: _Asked, choice: dict[str, Any], model: Model) -> _Settled:
    """Return a choice with its calls, asking again as often as the job allows."""
    plan = asked.plan
    place = (asked.sample or 0, choice["index"])
    usages: list[Mapping[str, Any]] = []
    turns: list[Turn] = []
    reading = asked.read(choice)
    for retry in range(plan.job.backtalk.tool_retries):
        problems = faults(reading, plan.tooling.choice, choice["message"].get("tool_calls") or ())
        if not problems:
            break
        told = plan.words.retry(list(dict.fromkeys(fault.detail for _, fault in problems))[:MAX_TOLD])
        turn = Turn(sample=asked.sample, choice=place[1], reply=reply(choice["message"]), told=told)
        try:
            again = await model.complete(
                plan.endpoint,
                _once_more(asked.body, [*turns, turn]),
                place=f"{_place(asked.sample)}/choices/{place[1]}/retries/{retry}",
            )
        except BacktalkError:
            # what is there is paid for: it is answered as it is, with what is wrong with it
            break
        turns.append(turn)
        usages.append(again.usage)
        choice = {**again.choices[0], "index": place[1]}
        reading = asked.read(choice)
    answered = with_calls(choice, reading, plan.tooling.choice, plan.key, place)
    return _Settled(answered, reply(choice["message"]), tuple(usages), tuple(turns))


def _place(sample: int | None) -> str:
    return f"items/{sample or 0}"


def _once_more(body: Mapping[str, Any], turns: Sequence[Turn]) -> dict[str, Any]:
    """Return what was sent, for a single choice, and the turns since."""
    again = {key: value for key, value in body.items() if key != "n"}
    since = [message for turn in turns for message in turn.messages()]
    return {**again, "messages": [*body["messages"], *since]}


def _in_order(completion: Completion) -> list[dict[str, Any]]:
    """Return the choices by their index; where an endpoint gives none, or one twice, by their place."""
    indices = [choice.get("index") for choice in completion.choices]
    if None in indices or len(set(indices)) < len(indices):
        return [{**choice, "index": at} for at, choice in enumerate(completion.choices)]
    return sorted(completion.choices, key=lambda choice: choice["index"])
