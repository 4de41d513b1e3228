"""Tells what a model says while it says it: its chunks, with calls in the places of the text that made them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from backtalk.runtime.emit import Emit
from backtalk.wire.chunk import CompletionChunk
from forward_worker.plan import Plan
from forward_worker.tools.answer import call_id, finish_reason, openai_call
from forward_worker.tools.known import Known
from forward_worker.tools.parse import Reader
from forward_worker.tools.reading import Call, Event

_OURS: Final = frozenset({"choices", "usage", "run", "item", "choice", "sequence", "schema_version"})


class Narrator:
    """Hears the chunks of one item and emits those that callers get. A new try is a new run."""

    def __init__(self, plan: Plan, item: int, emit: Emit) -> None:
        self._plan = plan
        self._item = item
        self._emit = emit
        options = plan.job.arguments.get("stream_options")
        self._wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        self.begin()

    def begin(self) -> None:
        self._run = uuid.uuid4().hex
        self._readers: dict[int, Reader] = {}
        self._numbers: dict[int, dict[str, int]] = {}

    def hear(self, chunk: dict[str, Any], /) -> None:
        for choice in chunk.get("choices") or ():
            for told in self._told(choice):
                self._tell(chunk, choice.get("index") or 0, [told])
        if self._wants_usage and chunk.get("usage"):
            self._tell(chunk, None, [], usage=chunk["usage"])

    def _tell(
        self, chunk: Mapping[str, Any], choice: int | None, choices: list[dict[str, Any]], usage: Any = None
    ) -> None:
        head = {key: value for key, value in chunk.items() if key not in _OURS}
        self._emit(
            CompletionChunk(
                **head, run=self._run, item=self._item, choice=choice, choices=choices, usage=usage
            )
        )

    def _told(self, choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a choice as callers see it: nothing while it is not certain whether it is text."""
        known = self._plan.tooling.known
        if known is None:
            yield choice
            return
        index = choice.get("index") or 0
        reader = self._reader(index, known)
        said = dict(choice.get("delta") or {})
        events = reader.feed(said.pop("content", None) or "")
        # some servers say "" where others say null
        reason = choice.get("finish_reason") or None
        if reason is not None:
            events += reader.close()
        deltas = [self._renumbered(said, index)] if said else []
        deltas += self._deltas(index, reader, events)
        if deltas or _says_more(choice):
            # what stands beside a delta stands beside the first
            yield {**choice, "delta": deltas[0] if deltas else {}, "finish_reason": None}
        yield from ({"index": index, "delta": delta, "finish_reason": None} for delta in deltas[1:])
        if reason is not None:
            ended = finish_reason(reason) if reader.calls else reason
            yield {"index": index, "delta": {}, "finish_reason": ended}

    def _deltas(self, choice: int, reader: Reader, events: Sequence[Event]) -> Iterator[dict[str, Any]]:
        at = len(reader.calls) - sum(isinstance(event, Call) for event in events)
        for event in events:
            if isinstance(event, str):
                yield {"content": event}
                continue
            call = openai_call(event, call_id(self._plan.key, (self._item, choice), at))
            yield {"tool_calls": [{"index": self._number(choice, f"read {at}"), **call}]}
            at += 1

    def _renumbered(self, said: dict[str, Any], choice: int) -> dict[str, Any]:
        """Return a delta with the calls that an endpoint makes by itself numbered beside those that were read."""
        if not said.get("tool_calls"):
            return said
        calls = [
            {**call, "index": self._number(choice, f"native {call['index']}")} for call in said["tool_calls"]
        ]
        return {**said, "tool_calls": calls}

    def _number(self, choice: int, call: str) -> int:
        numbers = self._numbers.setdefault(choice, {})
        return numbers.setdefault(call, len(numbers))

    def _reader(self, choice: int, known: Known) -> Reader:
        if choice not in self._readers:
            self._readers[choice] = Reader(self._plan.words.call_token, known.checking())
        return self._readers[choice]


def _says_more(choice: Mapping[str, Any]) -> bool:
    return any(
        value is not None and key not in ("index", "delta", "finish_reason") for key, value in choice.items()
    )
