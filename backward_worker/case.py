"""What there is to show of one sample of a call: what the model saw, what it said, what was made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from backtalk.injection import is_text
from backtalk.prompt import Conversation, as_text
from backtalk.wire.graph import ChatCompletion
from backtalk.wire.position import Position
from backward_worker.criticism import Criticisms, criticisms
from backward_worker.gradient import TextGradient
from backward_worker.place import is_tool_text, place_of
from backward_worker.reads import Reads, Text
from backward_worker.step import Step


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as the model saw it, and before it was filled where that differs.

    `same`: it is that of the sample shown first, and not shown again.
    """

    role: str
    text: str
    template: str | None
    same: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """An answer, and the tries before it that the worker sent back: what was said, what was told.

    `used` is what the program put in its place.
    """

    role: str
    text: str
    tries: tuple[tuple[str, str], ...]
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """All that is shown of one sample of a call; the same for every input that is asked about.

    `arguments` is None where they are those of the sample shown first.
    """

    messages: tuple[Shown, ...]
    arguments: str | None
    outputs: tuple[Output, ...]
    said: Criticisms
    texts: tuple[Text, ...]

    def after(self, first: Self) -> Self:
        """Return what is left to show behind the first sample: what is the same is not shown again."""
        messages = tuple(
            Shown(mine.role, "", None, same=True) if mine == its else mine
            for mine, its in zip(self.messages, first.messages, strict=True)
        )
        arguments = None if self.arguments == first.arguments else self.arguments
        return replace(self, messages=messages, arguments=arguments)


def cases(step: Step[TextGradient], reads: Reads) -> Callable[[int | None], Case]:
    """Return what there is to show of each sample of a step."""
    graph, operation, variables = step.graph, step.operation, step.graph.index.variables
    assert isinstance(operation, ChatCompletion)
    conversation = Conversation.of(operation, graph)

    def case(sample: int | None) -> Case:
        wanted = reads.wanted(sample)
        return Case(
            messages=_messages(conversation, sample),
            arguments=_arguments(operation, conversation, sample),
            outputs=tuple(
                Output(
                    variables[output].role,
                    as_text(variables[output].value(sample)),
                    tuple(_tries(operation, sample, choice)),
                    tuple(as_text(variables[edited].value(sample)) for edited in graph.edits.get(output, ())),
                )
                for choice, output in enumerate(operation.outputs)
                if variables[output].value(sample) is not None
            ),
            said=criticisms(step, sample, "answer"),
            texts=tuple(
                Text(
                    position.path,
                    variables[position.variable].role,
                    conversation.text(position.variable, sample),
                    position.path in wanted,
                    _place(position, wanted, conversation, sample),
                )
                for position in reads.of_sample(sample)
            ),
        )

    return case


def _messages(conversation: Conversation, sample: int | None) -> tuple[Shown, ...]:
    rendered = conversation.render(sample)
    templates = conversation.render(sample, filled=False)
    return tuple(
        Shown(message["role"], _flat(message), _flat(template) if template != message else None)
        for message, template in zip(rendered, templates, strict=True)
    )


def _flat(message: dict[str, Any]) -> str:
    """Return a message as text: parts that are none by their type, other fields as JSON."""
    content = message["content"] or ""
    if not isinstance(content, str):
        content = "\n".join(
            part["text"] if is_text(part) else f"[a part of type {part.get('type')}, not shown]"
            for part in content
        )
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    return "\n".join(filter(None, (content, _json(rest) if rest else "")))


def _place(
    position: Position, wanted: Container[str], conversation: Conversation, sample: int | None
) -> str | None:
    if position.path not in wanted or not is_tool_text(position.path):
        return None
    return place_of(position.variable, conversation, sample)


def _tries(operation: ChatCompletion, sample: int | None, choice: int) -> Iterator[tuple[str, str]]:
    for turn in operation.injected.tries.get((sample, choice), ()) if operation.injected else ():
        yield turn.reply, turn.told


def _arguments(operation: ChatCompletion, conversation: Conversation, sample: int | None) -> str:
    told = {"model": operation.model, **operation.arguments}
    if operation.sends_tools and operation.tools is not None:
        told["tools"] = list(conversation.sent_tools(operation.tools, sample))
        told["tool_choice"] = operation.tool_choice
    return _json(told)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
