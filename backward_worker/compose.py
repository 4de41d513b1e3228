"""The prompt that asks a model how one input of a call should change. Pure: the same step gives the same words.

Untrusted texts stand between fences whose boundary derives from all of them, so that none can contain it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from backtalk.prompt import Conversation, as_text
from backtalk.wire.graph import ChatCompletion, Graph
from backward_worker.backward import Contribution, Step
from backward_worker.gradient import TextGradient
from backward_worker.plan import Target

MAX_QUOTED: Final = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as the model saw it, and before it was filled where that differs."""

    role: str
    text: str
    template: str | None


@dataclass(frozen=True, slots=True)
class Output:
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Criticism:
    origin: str
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A variable of the call: where it stands, what it is for, whether it may change."""

    path: str
    role: str
    text: str
    changes: bool


@dataclass(frozen=True, slots=True)
class Case:
    """All that is shown of one sample of a call; the same for every input that is asked about."""

    messages: tuple[Shown, ...]
    arguments: str
    outputs: tuple[Output, ...]
    criticisms: tuple[Criticism, ...]
    silent: int
    incomplete: bool
    texts: tuple[Text, ...]


def case(step: Step[TextGradient], sample: int | None) -> Case:
    """Return what there is to show of one sample."""
    graph, operation = step.graph, step.operation
    conversation = Conversation.of(operation, graph)
    received = step.received[sample]
    wanted = {target.position.path for target in step.targets if target.sample == sample}
    variables = graph.index.variables
    return Case(
        messages=_messages(conversation, sample),
        arguments=_arguments(operation),
        outputs=tuple(
            Output(variables[output].role, as_text(variables[output].value(sample)))
            for output in operation.outputs
            if variables[output].value(sample) is not None
        ),
        criticisms=tuple(
            Criticism(_of(output, operation) + _origin(said, graph), said.gradient.text)
            for output, said in received
            if said.gradient.text
        ),
        silent=sum(not said.gradient.text for _, said in received),
        incomplete=any(said.incomplete for _, said in received),
        texts=tuple(
            Text(
                position.path,
                variables[position.variable].role,
                conversation.text(position.variable, sample),
                position.path in wanted,
            )
            for position in operation.positions()
            if position.sample in (None, sample)
        ),
    )


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions about the inputs of one sample; their prompts differ only at the end."""

    call: str
    fence: Callable[[str, str], str]
    texts: Mapping[str, Text]

    def about(self, target: Target) -> list[dict[str, Any]]:
        """Return the messages that ask about one input."""
        text = self.texts[target.position.path]
        task = _template("variable").render(target=text, fence=self.fence, quote=_quote)
        return [
            {"role": "system", "content": _instructions()},
            {"role": "user", "content": self.call + task},
        ]


def questions(shown: Case) -> Questions:
    """Write down what all questions about one sample have in common."""
    fence = _fence(_boundary(shown))
    call = _template("call").render(case=shown, fence=fence, quote=_quote)
    return Questions(call, fence, {text.path: text for text in shown.texts})


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
            part["text"] if part.get("type") == "text" else f"[a part of type {part.get('type')}, not shown]"
            for part in content
        )
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    return "\n".join(filter(None, (content, _json(rest) if rest else "")))


def _arguments(operation: ChatCompletion) -> str:
    told = {"model": operation.model, **operation.arguments}
    if operation.tools is not None:
        told["tools"] = list(operation.tools)
    if operation.tool_choice is not None:
        told["tool_choice"] = operation.tool_choice
    return _json(told)


def _of(output: str, operation: ChatCompletion) -> str:
    """Say which answer is meant, where a call gave several."""
    several = len(operation.outputs) > 1
    return f"Of answer {operation.outputs.index(output) + 1}. " if several else ""


def _origin(contribution: Contribution[TextGradient], graph: Graph) -> str:
    item = "" if contribution.sample is None else f", for item {contribution.sample} of a batch"
    if contribution.operation is None:
        source = contribution.gradient.source
        return f"Said directly of the answer{f' by {_quote(source)}' if source else ''}{item}"
    consumer = graph.operations[graph.index.operations[contribution.operation]]
    role = graph.index.variables[consumer.outputs[0]].role
    return (
        f"The answer was read by a later call, at {_quote(contribution.input or '')}, which wrote {_quote(role)}{item}; "
        "how the answer should change for that call"
    )


@lru_cache(maxsize=1024)
def _quote(text: str) -> str:
    """Return untrusted words fit to stand in a line of ours: short, and without any kind of line break."""
    shown = text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"
    return json.dumps(" ".join(shown.splitlines()), ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _boundary(shown: Case) -> str:
    """Return a boundary that no text of the case contains, the same one for the same case."""
    everything = "\n".join(_strings(shown))
    boundary = hashlib.sha256(everything.encode()).hexdigest()[:12]
    while boundary in everything:
        boundary = hashlib.sha256(boundary.encode()).hexdigest()[:12]
    return boundary


def _strings(shown: Case) -> Iterator[str]:
    yield shown.arguments
    for message in shown.messages:
        yield from (message.role, message.text, message.template or "")
    for output in shown.outputs:
        yield from (output.role, output.text)
    for criticism in shown.criticisms:
        yield from (criticism.origin, criticism.text)
    for text in shown.texts:
        yield from (text.path, text.role, text.text)


def _fence(boundary: str) -> Callable[[str, str], str]:
    def fence(kind: str, text: str) -> str:
        return f'<fence-{boundary} kind="{kind}">\n{text}\n</fence-{boundary}>'

    return fence


@cache
def _instructions() -> str:
    return _template("instructions").render()


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("backward_worker", "prompts"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  the reader is a model, and the fences keep texts apart
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{name}.jinja")
