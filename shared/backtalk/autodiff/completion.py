"""Chat completions of a program: checked here, done by forward workers, a large batch by several of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from backtalk.autodiff.batches import Batch, joined
from backtalk.autodiff.jobs import Draft, drafted
from backtalk.autodiff.line import Work
from backtalk.autodiff.session import current
from backtalk.autodiff.variable import Variable
from backtalk.autodiff.warn import warn
from backtalk.client import Client, Refused
from backtalk.models.client import ModelClient
from backtalk.wire.errors import Code
from backtalk.wire.jobs import CompletionJob, CompletionResult
from backtalk.wire.messages import MAX_BATCH

ITEMS_PER_JOB: Final = 64


class Response(Variable):
    """What a model answered: a Variable. `completions` are the answers as the endpoint gave them, one for each item.

    An item that failed has None as data, and `{"error"}` among the completions.
    """

    completions: tuple[Mapping[str, Any], ...] = ()

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message of the next call, with its calls of tools.

        >>> from backtalk.models.openai import OpenAI
        >>> messages = [{"role": "user", "content": [Variable("Say hello.", role="question")]}]
        >>> answer = chat_completion(OpenAI(), messages, model="gpt-4o")
        >>> messages += [answer.message, {"role": "user", "content": [Variable("And now in French.", role="question")]}]
        >>> chat_completion(OpenAI(), messages, model="gpt-4o").role
        'response to question'

        Raises ValueError for a batch, of which each item would need a message of its own.
        """
        if len(self.completions) != 1 or isinstance(self.data, list):
            raise ValueError("message: the answer to a batch is no single message")
        said = self.completions[0]["choices"][0]["message"]
        calls = {"tool_calls": said["tool_calls"]} if said.get("tool_calls") else {}
        return {"role": "assistant", "content": [self], **calls}


def chat_completion(
    forward_model_client: ModelClient,
    messages: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any] | None = None,
    *,
    items_per_job: int = ITEMS_PER_JOB,
    **completion_args: Any,
) -> Response:
    """Ask a model, and return its answer: a text, or for a batch a list of texts, aligned with the inputs.

    >>> from backtalk.models.openai import OpenAI
    >>> messages = [{"role": "user", "content": [Variable("Translate 'Hello' to {language}.", role="question")]}]
    >>> chat_completion(OpenAI(), messages, {"language": "Italian"}, model="gpt-4o").data
    'Ciao'
    >>> chat_completion(OpenAI(), messages, {"language": ["Italian", "French"]}, model="gpt-4o").data
    ['Ciao', 'Bonjour']

    Messages are OpenAI's, with a list of Variables as `content`, which are joined; parts that are no text (images) may
    stand between them as OpenAI writes them. `inputs` fill `{placeholders}`: a text, a list of texts, a Variable, or a
    list of Variables. Any list makes a batch, scalars serve every item; a batch is sent as jobs of `items_per_job`, so
    that many forward workers share it. Descriptions of `tools` and `tool_templates` may be Variables as well.

    Raises ValueError and TypeError where messages and inputs do not fit together, Refused where the worker or the
    endpoint could not do it. Items of a batch that failed are None, and a PartialWarning tells of them.
    """
    call = _prepared(forward_model_client, messages, inputs, items_per_job, completion_args)
    return call.finish(current().run(call.send))


async def achat_completion(
    forward_model_client: ModelClient,
    messages: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any] | None = None,
    *,
    items_per_job: int = ITEMS_PER_JOB,
    **completion_args: Any,
) -> Response:
    """Do what `chat_completion` does, without blocking the event loop."""
    call = _prepared(forward_model_client, messages, inputs, items_per_job, completion_args)
    return call.finish(await current().arun(call.send))


@dataclass(frozen=True, slots=True)
class _Call:
    """A call under way, and the parts of its batch."""

    model_client: ModelClient
    draft: Draft
    batch: Batch

    @property
    def send(self) -> Work[Sequence[CompletionResult]]:
        jobs = [self.draft.job(part) for part in self.batch.parts]

        async def send(client: Client) -> Sequence[CompletionResult]:
            return await asyncio.gather(*(_result(client, job) for job in jobs))

        return send

    def finish(self, results: Sequence[CompletionResult]) -> Response:
        """Return the answer; the graph is kept where the call is recorded."""
        completions = tuple(self._completions(results))
        for completion in completions:
            if "error" not in completion:
                self.model_client.spend(
                    completion.get("usage") or {}, model=completion.get("model") or self.draft.model
                )
        if all(result.status == "failed" for result in results):
            results[0].raise_for_status()
        for result in results:
            if result.graph_omitted:
                raise Refused(
                    Code.PAYLOAD_TOO_LARGE,
                    "the graph of this call is too large for one message; give a smaller items_per_job",
                )
        graph, output = joined(self.batch, results)
        response = Response.written(graph.index.variables[output], self.draft.begun.kept(graph))
        response.completions = completions
        _warn_of(completions)
        return response

    def _completions(self, results: Sequence[CompletionResult]) -> Iterator[Mapping[str, Any]]:
        for part, result in zip(self.batch.parts, results, strict=True):
            error = {"error": result.error.model_dump(mode="json")} if result.error else {}
            yield from result.completions or (error,) * (part.length or 1)


def _prepared(
    model_client: ModelClient,
    messages: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any] | None,
    items_per_job: int,
    completion_args: Mapping[str, Any],
) -> _Call:
    if type(items_per_job) is not int or not 1 <= items_per_job <= MAX_BATCH:
        raise ValueError(f"items_per_job is {items_per_job}; it must be a number from 1 to {MAX_BATCH}")
    draft = drafted(model_client, messages, inputs or {}, completion_args)
    return _Call(model_client, draft, Batch.of(draft, items_per_job))


async def _result(client: Client, job: CompletionJob) -> CompletionResult:
    """Return the result of a job; one that cannot even be sent fails alone, as one that a worker refuses."""
    try:
        return await client.call(job)
    except Refused as refused:
        return CompletionResult.failed("", refused.error)


def _warn_of(completions: Sequence[Mapping[str, Any]]) -> None:
    errors = [completion["error"] for completion in completions if "error" in completion]
    if errors:
        warn(
            f"{len(errors)} of {len(completions)} items failed; the first: {errors[0]['code']}: {errors[0]['message']}"
        )
