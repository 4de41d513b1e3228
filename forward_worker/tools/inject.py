"""What the tools of a job come to: words in its messages, functions that its replies may call."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtalk.injection import as_json, with_token
from backtalk.wire.choice import Choice
from backtalk.wire.errors import invalid
from backtalk.wire.identity import derive
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.tools import (
    Injected,
    RecordedTemplates,
    RecordedWords,
    Segment,
    Tool,
    ToolMode,
    VariableRef,
    map_descriptions,
)
from forward_worker.draft import Draft
from forward_worker.tools.history import rewritings
from forward_worker.tools.known import Known
from forward_worker.tools.schema import SCHEMA_SECONDS, Schema, schema_of
from forward_worker.tools.words import BadTemplate, Marks, Words


@dataclass(frozen=True, slots=True)
class Toolbox:
    """How a worker serves tools: its words, and the mode of every endpoint."""

    words: Words
    modes: Mapping[str, ToolMode]

    def mode(self, job: CompletionJob, endpoint: str) -> ToolMode:
        """Return how the tools of a job reach the model."""
        if job.backtalk.tool_mode is not None:
            return job.backtalk.tool_mode
        return "inject" if job.tool_templates is not None else self.modes.get(endpoint, "inject")


def toolbox(folder: Path | None, modes: Mapping[str, ToolMode]) -> Toolbox:
    """Return the toolbox with the words in a folder, or the default ones. Raises BadTemplate."""
    try:
        return Toolbox(Words.load(folder), modes)
    except BadTemplate as error:
        raise BadTemplate(f"BACKTALK_TOOL_TEMPLATES: {error}") from error


@dataclass(frozen=True, slots=True)
class Tooling:
    """What is put into the messages of a job, and, in inject mode, what its replies may call."""

    mode: ToolMode
    choice: Choice
    injected: Injected | None
    known: Known | None


def tooling(job: CompletionJob, draft: Draft, endpoint: str, toolbox: Toolbox) -> Tooling:
    """Return what a job's tools come to. Raises Refused where inject mode cannot serve them."""
    mode = toolbox.mode(job, endpoint)
    choice = job.choice
    conversation = draft.conversation
    messages = tuple(rewritings(conversation.messages, conversation.variables, mode, toolbox.words))
    if mode == "native":
        if job.backtalk.tool_retries:
            raise invalid(
                "backtalk/tool_retries",
                f"endpoint {endpoint!r} has tools of its own, whose calls are not read; "
                "leave it out, or say tool_mode inject",
            )
        injected = Injected(mode="native", messages=messages) if messages else None
        return Tooling(mode, choice, injected, None)
    if not messages and not job.tools:
        return Tooling(mode, choice, None, None)
    listed = _listed(job.tools or (), choice)
    injected = Injected(
        mode="inject",
        call_token=toolbox.words.call_token,
        side=(draft.templates or RecordedTemplates()).position or "top",
        block=_block(job, choice, draft, listed, toolbox.words) if listed else (),
        messages=messages,
    )
    return Tooling(mode, choice, injected, _known(draft.tools or (), listed) if listed else None)


def _listed(tools: Sequence[Tool], choice: Choice) -> Sequence[int]:
    """Return which of the tools the model gets to see, by their index."""
    if choice.kind == "none":
        return ()
    if choice.kind == "other":
        raise invalid("tool_choice", "this form of it works in native mode alone; say tool_mode native")
    for at, tool in enumerate(tools):
        if tool.get("type", "function") != "function":
            raise invalid(f"tools/{at}/type", "only functions can be injected; say tool_mode native")
    if choice.kind == "function":
        return [at for at, tool in enumerate(tools) if _function(tool)["name"] == choice.name]
    return range(len(tools))


def _block(
    job: CompletionJob, choice: Choice, draft: Draft, listed: Sequence[int], words: Words
) -> tuple[Segment, ...]:
    marks = Marks(derive(draft.key, "marks"))
    recorded = draft.tools or ()
    marked = map_descriptions((recorded[at] for at in listed), lambda _, ref: marks.mark(ref["variable"]))
    shown = [_shown(_function(tool)) for tool in marked]
    templates = draft.templates or RecordedTemplates()
    if choice.kind == "function":
        prefix, suffix = _words(templates.force_call or RecordedWords(), words, marks)
        return words.force_call(shown[0], prefix=prefix, suffix=suffix, marks=marks)
    prefix, suffix = _words(templates.function_list or RecordedWords(), words, marks)
    return words.function_list(
        shown,
        prefix=prefix,
        suffix=suffix,
        required=choice.kind == "required",
        parallel=job.arguments.get("parallel_tool_calls") is not False,
        marks=marks,
    )


def _words(stated: RecordedWords, words: Words, marks: Marks) -> Iterator[str | None]:
    for text in (stated.prefix, stated.suffix):
        if isinstance(text, VariableRef):
            yield marks.mark(text.variable, "words")
        else:
            yield None if text is None else with_token(text, words.call_token)


def _shown(function: Mapping[str, Any]) -> dict[str, Any]:
    return {key: function.get(key) for key in ("name", "description", "parameters")}


def _known(tools: Sequence[Tool], listed: Sequence[int]) -> Known:
    # what describes a parameter does not matter to its schema
    plain = map_descriptions(tools, lambda _path, _ref: "")
    until = time.thread_time() + SCHEMA_SECONDS
    return Known({_function(plain[at])["name"]: _schema(_function(plain[at]), at, until) for at in listed})


def _schema(function: Mapping[str, Any], at: int, until: float) -> Schema | None:
    parameters = function.get("parameters")
    if not parameters:
        return None
    if time.thread_time() > until:
        raise invalid("tools", "their schemas take too long to check; make them smaller")
    try:
        return schema_of(as_json(parameters))
    except ValueError as error:
        raise invalid(f"tools/{at}/function/parameters", f"is no JSON Schema: {error}") from error


def _function(tool: Tool) -> dict[str, Any]:
    function = tool["function"]
    assert isinstance(function, dict)
    return function
