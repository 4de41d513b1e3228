"""The tape of one job: what it reads as variables, before the call; what it wrote, after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backtalk.prompt import Conversation, Part
from backtalk.wire.base import escape
from backtalk.wire.errors import Code, Refused, invalid
from backtalk.wire.graph import ChatCompletion, Graph, PartRef, RecordedMessage, Variable
from backtalk.wire.identity import derive
from backtalk.wire.jobs import MAX_BATCH, CompletionJob, ContentItem, InlineVariable, InputItem, Message
from backtalk.wire.join import same_json

Replies: TypeAlias = Sequence[Sequence[str] | None]


@dataclass(frozen=True, slots=True)
class Draft:
    """A job as the tape will hold it, still without its outputs.

    `batch` is the number of samples, None for a scalar job; `wanted` says whether anybody wants the tape.
    """

    key: str
    conversation: Conversation
    batch: int | None
    wanted: bool

    @property
    def samples(self) -> Sequence[int | None]:
        return (None,) if self.batch is None else range(self.batch)


def draft(job: CompletionJob, key: str) -> Draft:
    """Name every value that a job reads. Raises Refused where the job contradicts itself."""
    desk = _Desk(key)
    messages = tuple(desk.message(message, f"messages/{at}") for at, message in enumerate(job.messages))
    inputs = {name: desk.input(value, name) for name, value in job.inputs.items()}
    conversation = Conversation(messages, inputs, desk.variables, desk.parts)
    if unused := conversation.unused_inputs():
        raise invalid(
            f"inputs/{escape(unused[0])}",
            f"no message uses {{{unused[0]}}}; write it into a message, or leave the input out",
        )
    wanted = job.backtalk.record == "always" or (job.backtalk.record == "auto" and desk.holds_variables)
    return Draft(key, conversation, desk.batch(), wanted)


class _Desk:
    """Collects variables and parts while a job is read."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.variables: dict[str, Variable] = {}
        self.parts: dict[str, Part] = {}
        self.holds_variables = False
        self._lengths: dict[str, int] = {}

    def message(self, message: Message, path: str) -> RecordedMessage:
        role = f"{message.role} message"
        content: tuple[str | PartRef, ...] | None = None
        if isinstance(message.content, str):
            content = (self._variable(message.content, f"{path}/content/0", role),)
        elif message.content is not None:
            content = tuple(
                self._item(item, f"{path}/content/{at}", role) for at, item in enumerate(message.content)
            )
        return RecordedMessage(role=message.role, content=content, **(message.model_extra or {}))

    def input(self, value: InputItem | tuple[InputItem, ...], name: str) -> str | tuple[str, ...]:
        path = f"inputs/{escape(name)}"
        if not isinstance(value, tuple):
            return self._variable(value, path, name)
        texts = tuple(item for item in value if isinstance(item, str))
        if len(texts) == len(value):
            self._batch_of(texts, path)
            return self._text(texts, path, name)
        self._lengths[path] = len(value)
        return tuple(self._scalar(item, f"{path}/{at}", name) for at, item in enumerate(value))

    def batch(self) -> int | None:
        if len(set(self._lengths.values())) > 1:
            told = ", ".join(f"{path} has {length}" for path, length in self._lengths.items())
            raise invalid(
                next(iter(self._lengths)), f"batch lengths differ ({told}); give all lists the same length"
            )
        return next(iter(self._lengths.values()), None)

    def _item(self, item: ContentItem, path: str, role: str) -> str | PartRef:
        if isinstance(item, dict):
            # a text part that says nothing but its text is a text; one with more to say stays a part
            if item.keys() == {"type", "text"} and item["type"] == "text" and isinstance(item["text"], str):
                return self._variable(item["text"], path, role)
            return self._part(item)
        return self._variable(item, path, role)

    def _part(self, part: Part) -> PartRef:
        id = hashlib.sha256(canonical(part).encode()).hexdigest()
        self.parts[id] = part
        return PartRef(part=id)

    def _scalar(self, item: InputItem, path: str, role: str) -> str:
        if isinstance(item, InlineVariable) and isinstance(item.data, tuple):
            raise invalid(path, "is a batch inside a list; use one list, or scalar Variables in it")
        return self._variable(item, path, role)

    def _variable(self, value: str | InlineVariable, path: str, role: str) -> str:
        return self._text(value, path, role) if isinstance(value, str) else self._stated(value, path, role)

    def _text(self, data: str | tuple[str, ...], path: str, role: str) -> str:
        """File a text, or a batch of texts, that the job does not name."""
        id = derive(self.key, path)
        self.variables[id] = Variable(id=id, data=data, role=role)
        return id

    def _stated(self, inline: InlineVariable, path: str, role: str) -> str:
        """File a Variable as the job states it; what it leaves out is filled in."""
        self.holds_variables = True
        if isinstance(inline.data, tuple):
            self._batch_of(inline.data, path)
        id = inline.id or derive(self.key, path)
        # a Variable without a role may stand in several places; the first one names it
        usual = self.variables[id].role if id in self.variables else role
        variable = Variable(
            id=id,
            data=inline.data,
            role=usual if inline.role is None else inline.role,
            requires_grad=inline.requires_grad,
            name=inline.name,
            producer=inline.producer,
        )
        known = self.variables.setdefault(variable.id, variable)
        if known is not variable and not _same(known, variable):
            raise Refused(
                Code.GRAPH_CONFLICT,
                f"{path}: variable {variable.id!r} stands in the job with different content; "
                "an id names one value for ever, so give the changed one a new id",
                path=path,
                values=[known.model_dump(mode="json"), variable.model_dump(mode="json")],
            )
        return variable.id

    def _batch_of(self, data: tuple[Any, ...], path: str) -> None:
        if len(data) > MAX_BATCH:
            raise invalid(
                path, f"{len(data)} items are more than {MAX_BATCH}; split the batch into several jobs"
            )
        self._lengths[path] = len(data)


def _same(left: Variable, right: Variable) -> bool:
    return same_json(left.model_dump(mode="json"), right.model_dump(mode="json"))


def canonical(value: Any) -> str:
    """Return JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def reply(message: dict[str, Any]) -> str:
    """Return a model's reply as the tape keeps it: its text, then native tool calls, one line each."""
    lines = [canonical(_called(call)) for call in message.get("tool_calls") or ()]
    return "\n".join(([message["content"]] if message.get("content") else []) + lines)


def _called(call: dict[str, Any]) -> dict[str, Any]:
    """Return name and arguments of a call; a custom tool takes text where a function takes arguments."""
    if custom := call.get("custom"):
        return {"name": custom.get("name"), "arguments": custom.get("input")}
    function = call.get("function") or {}
    return {"name": function.get("name"), "arguments": function.get("arguments")}


def fragment(draft: Draft, job: CompletionJob, endpoint: str, replies: Replies) -> Graph:
    """Return the graph of a finished job; `replies` holds one text per choice for each sample, None if failed."""
    operation_id = derive(draft.key, "operation")
    choices = max(len(texts) for texts in replies if texts)
    outputs = [
        Variable(
            id=derive(draft.key, f"outputs/{choice}"),
            data=_column(draft, replies, choice),
            role=f"response to {_last_role(draft.conversation)}",
            requires_grad=any(variable.requires_grad for variable in draft.conversation.variables.values()),
            producer=operation_id,
        )
        for choice in range(choices)
    ]
    operation = ChatCompletion(
        id=operation_id,
        endpoint=endpoint,
        model=job.model,
        arguments=job.arguments,
        messages=draft.conversation.messages,
        inputs=dict(draft.conversation.inputs),
        tools=job.tools,
        tool_choice=job.tool_choice,
        outputs=tuple(output.id for output in outputs),
    )
    return Graph(
        variables=(*draft.conversation.variables.values(), *outputs),
        operations=(operation,),
        parts=dict(draft.conversation.parts),
    )


def _column(draft: Draft, replies: Replies, choice: int) -> str | tuple[str | None, ...]:
    column = tuple(texts[choice] if texts and choice < len(texts) else None for texts in replies)
    if draft.batch is None:
        assert column[0] is not None
        return column[0]
    return column


def _last_role(conversation: Conversation) -> str:
    """Return the role of what was answered: the last message's first text."""
    for message in reversed(conversation.messages):
        for item in message.content or ():
            if isinstance(item, str):
                return conversation.variables[item].role
    return "conversation"
