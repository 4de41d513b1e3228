"""The tape of one job, once it is done: what it read, what it wrote, and the operation between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from backtalk.prompt import Conversation
from backtalk.wire.graph import ChatCompletion, Graph, Variable
from backtalk.wire.identity import derive
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.tools import Injected
from forward_worker.draft import Draft, canonical

Replies: TypeAlias = Sequence[Sequence[str] | None]


def reply(message: dict[str, Any]) -> str:
    """Return a model's reply as the tape keeps it: its text, then native tool calls, one line each."""
    calls = spoken(_called(call) for call in message.get("tool_calls") or ())
    return "\n".join(filter(None, (message.get("content"), calls)))


def spoken(calls: Iterable[tuple[Any, Any]]) -> str:
    """Return native calls, each its name and its arguments, as the tape keeps them: a line of JSON each."""
    return "\n".join(canonical({"name": name, "arguments": arguments}) for name, arguments in calls)


def _called(call: dict[str, Any]) -> tuple[Any, Any]:
    """Return name and arguments of a call; a custom tool takes text where a function takes arguments."""
    if custom := call.get("custom"):
        return custom.get("name"), custom.get("input")
    function = call.get("function") or {}
    return function.get("name"), function.get("arguments")


def fragment(
    draft: Draft, job: CompletionJob, endpoint: str, replies: Replies, injected: Injected | None
) -> Graph:
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
        tools=draft.tools,
        tool_choice=job.tool_choice,
        tool_templates=draft.templates,
        injected=injected,
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
    """Return the role of what was answered: the last message's first text that has one."""
    for message in reversed(conversation.messages):
        for item in message.content or ():
            if isinstance(item, str) and conversation.variables[item].role:
                return conversation.variables[item].role
    return "conversation"
