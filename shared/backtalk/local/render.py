"""What a model would receive for a job, without asking it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from backtalk.client.batchfile import BadFile
from backtalk.injection import as_json, is_text
from backtalk.prompt import FailedItem
from backtalk.runtime.settings import Settings
from backtalk.runtime.settings_told import explain
from backtalk.wire.codec import decode
from backtalk.wire.errors import invalid
from backtalk.wire.identity import work_key
from backtalk.wire.jobs import CompletionJob
from forward_worker.plan import Plan
from forward_worker.tools.inject import toolbox
from forward_worker.tools.words import BadTemplate


@dataclass(frozen=True, slots=True)
class Rendered:
    """The bodies that an endpoint would be sent, one for each item, and what is wrong with the words in them."""

    bodies: Mapping[int | None, dict[str, Any]]
    warnings: tuple[str, ...]


def rendered(job: bytes, *, item: int | None = None) -> Rendered:
    """Return what a worker with our environment would send for a job, or for one item of it.

    Raises BadFile where the environment is wrong, Refused where the job is.
    """
    try:
        settings = Settings()
        boxed = toolbox(settings.tool_templates, settings.tool_modes())
    except ValidationError as error:
        raise BadFile(explain(error)) from error
    except BadTemplate as error:
        raise BadFile(str(error)) from error
    plan = Plan.of(decode(job, CompletionJob), work_key("render", job), boxed)
    try:
        bodies = {sample: plan.body(sample) for sample in _chosen(plan.samples, item)}
    except FailedItem as error:
        raise invalid("inputs", str(error)) from error
    return Rendered(bodies, tuple(_warnings(plan, bodies)))


def as_text(body: Mapping[str, Any]) -> str:
    """Return a body message by message, for people."""
    return "\n\n".join(_sections(body))


def _chosen(samples: Sequence[int | None], item: int | None) -> Sequence[int | None]:
    if item is None:
        return samples
    if item not in samples:
        known = "the job is no batch" if samples[0] is None else f"the job has items 0 to {len(samples) - 1}"
        raise invalid("item", f"there is no item {item}; {known}")
    return (item,)


def _warnings(plan: Plan, bodies: Mapping[int | None, dict[str, Any]]) -> Iterator[str]:
    if plan.tooling.known is None:
        return
    token = plan.words.call_token
    sent = [text for body in bodies.values() for message in body["messages"] for text in _texts(message)]
    if not any(token in text for text in sent):
        yield (
            f"the call token {token} appears nowhere in it, so the model cannot know how to call a function; "
            "put {{func_call_token}} into a prefix or suffix"
        )


def _sections(body: Mapping[str, Any]) -> Iterator[str]:
    for at, message in enumerate(body["messages"], 1):
        rest = {key: value for key, value in message.items() if key not in ("role", "content")}
        yield "\n".join(
            [f"── message {at}, {message['role']}", *_texts(message), *([as_json(rest)] if rest else [])]
        )
    if tools := body.get("tools"):
        yield "\n".join(["── tools, for the endpoint's own tool calling", *map(as_json, tools)])
    rest = {key: value for key, value in body.items() if key not in ("messages", "tools")}
    yield f"── settings\n{as_json(rest)}"


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    content = message["content"]
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        yield part["text"] if is_text(part) else as_json(part)
