"""What a job reads, as variables: named before anything is asked, so that a repeat names the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backtalk.prompt import Conversation, Part
from backtalk.wire.base import escape
from backtalk.wire.choice import ToolTemplates, Words
from backtalk.wire.codec import validate
from backtalk.wire.errors import Code, Refused, invalid
from backtalk.wire.graph import PartRef, RecordedMessage, Variable
from backtalk.wire.identity import derive
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.join import same_json
from backtalk.wire.messages import MAX_BATCH, ContentItem, InlineVariable, InputItem, Message
from backtalk.wire.tools import RecordedTemplates, RecordedWords, Tool, VariableRef, map_descriptions


@dataclass(frozen=True, slots=True)
class Draft:
    """A job as the tape will hold it, still without its outputs.

    `batch` is the number of samples, None for a scalar job; `wanted` says whether anybody wants the tape. In `tools`
    and `templates` references stand for the texts that are variables.
    """

    key: str
    conversation: Conversation
    batch: int | None
    wanted: bool
    tools: tuple[Tool, ...] | None = None
    templates: RecordedTemplates | None = None

    @property
    def samples(self) -> Sequence[int | None]:
        return (None,) if self.batch is None else range(self.batch)


def draft(job: CompletionJob, key: str) -> Draft:
    """Name every value that a job reads. Raises Refused where the job contradicts itself."""
    desk = _Desk(key)
    messages = tuple(desk.message(message, f"messages/{at}") for at, message in enumerate(job.messages))
    inputs = {name: desk.input(value, name) for name, value in job.inputs.items()}
    tools = None if job.tools is None else desk.tools(job.tools)
    templates = None if job.tool_templates is None else desk.templates(job.tool_templates)
    conversation = Conversation(messages, inputs, desk.variables, desk.parts)
    if unused := conversation.unused_inputs():
        raise invalid(
            f"inputs/{escape(unused[0])}",
            f"no message uses {{{unused[0]}}}; write it into a message, or leave the input out",
        )
    wanted = job.backtalk.record == "always" or (job.backtalk.record == "auto" and desk.holds_variables)
    return Draft(key, conversation, desk.batch(), wanted, tools, templates)


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

    def tools(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """Return tools as the tape holds them; a description may be a Variable, as an object with `data`."""

        def recorded(path: str, described: dict[str, Any]) -> dict[str, Any]:
            id = self._about_tools(_inline(described, path), path, _described(tools, path))
            return {"variable": id}

        return map_descriptions(tools, recorded)

    def templates(self, templates: ToolTemplates) -> RecordedTemplates:
        return RecordedTemplates(
            function_list=self._words(templates.function_list, "function_list", "the list of functions"),
            force_call=self._words(templates.force_call, "force_call", "the function to call"),
            position=templates.position,
        )

    def _words(self, words: Words | None, name: str, what: str) -> RecordedWords | None:
        if words is None:
            return None
        path = f"tool_templates/{name}"
        return RecordedWords(
            prefix=self._recorded(words.prefix, f"{path}/prefix", f"words before {what}"),
            suffix=self._recorded(words.suffix, f"{path}/suffix", f"words after {what}"),
        )

    def _recorded(self, text: str | InlineVariable | None, path: str, role: str) -> str | VariableRef | None:
        if isinstance(text, InlineVariable):
            return VariableRef(variable=self._about_tools(text, path, role))
        return text

    def _about_tools(self, inline: InlineVariable, path: str, role: str) -> str:
        if isinstance(inline.data, tuple):
            raise invalid(
                path, "is a batch; the words about tools are the same for every item, so give one text"
            )
        return self._stated(inline, path, role)

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


def _inline(described: dict[str, Any], path: str) -> InlineVariable:
    try:
        return validate(described, InlineVariable)
    except Refused as refused:
        raise invalid(path, f"expected text or a Variable ({refused})") from refused


def _described(tools: Sequence[Tool], path: str) -> str:
    """Return the role of a description that states none, e.g. of `tools/0/function/parameters/properties/city/…`."""
    steps = path.split("/")
    function = tools[int(steps[1])]["function"]
    assert isinstance(function, dict)
    parameters = [steps[at + 1] for at, step in enumerate(steps[:-2]) if step == "properties"]
    of = f"the parameter {'.'.join(parameters)} of " if parameters else ""
    return f"description of {of}the function {function.get('name')}"


def canonical(value: Any) -> str:
    """Return JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
