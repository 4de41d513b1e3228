"""Everything that is decided about a job before the first model call; all of its items share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from backtalk.prompt import Conversation
from backtalk.wire.jobs import DEFAULT_ENDPOINT, CompletionJob
from forward_worker.draft import Draft, draft
from forward_worker.tools.inject import Toolbox, Tooling, tooling
from forward_worker.tools.words import Words


@dataclass(frozen=True)
class Plan:
    """A job, where it goes, and what becomes of its tools."""

    job: CompletionJob
    endpoint: str
    draft: Draft
    tooling: Tooling
    words: Words

    @classmethod
    def of(cls, job: CompletionJob, key: str, toolbox: Toolbox) -> Self:
        """Return the plan of a job. Raises Refused where the job cannot be done by anyone."""
        endpoint = endpoint_of(job)
        drafted = draft(job, key)
        return cls(job, endpoint, drafted, tooling(job, drafted, endpoint, toolbox), toolbox.words)

    @property
    def key(self) -> str:
        return self.draft.key

    @property
    def samples(self) -> Sequence[int | None]:
        return self.draft.samples

    @cached_property
    def conversation(self) -> Conversation:
        return replace(self.draft.conversation, injected=self.tooling.injected)

    def body(self, sample: int | None) -> dict[str, Any]:
        """Return what the endpoint is sent for one item. Raises FailedItem."""
        body = {"model": self.job.model, "messages": self.conversation.render(sample), **self.job.arguments}
        if self.tooling.mode == "inject":
            # an endpoint that sees no tools refuses it
            body.pop("parallel_tool_calls", None)
            return body
        if self.draft.tools is not None:
            body["tools"] = self.conversation.sent_tools(self.draft.tools, sample)
        if self.job.tool_choice is not None:
            body["tool_choice"] = self._native_choice()
        return body

    def _native_choice(self) -> Any:
        choice = self.tooling.choice
        if choice.kind == "function":
            return {"type": "function", "function": {"name": choice.name}}
        return self.job.tool_choice


def endpoint_of(job: CompletionJob) -> str:
    return job.backtalk.endpoint or DEFAULT_ENDPOINT
