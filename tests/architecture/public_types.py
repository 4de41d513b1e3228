"""Uses of the public interface that must type-check; this file is read by mypy and never run."""

from __future__ import annotations

from typing import Any, assert_type

import backtalk
from backtalk import Client, Gradient, Parameter, Response, Variable, cognitive, optim
from backtalk.models.openai import OpenAI
from backtalk.wire.feedback import Entry, Feedback, Gradients
from backtalk.wire.jobs import CompletionJob, CompletionResult


class Assistant(cognitive.Module):
    """A module as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.system = Parameter("Be helpful.", role="system prompt")
        self.chat = cognitive.ChatCompletion()

    def forward(self, model: OpenAI, text: Variable) -> Variable:
        messages = [
            {"role": "system", "content": [self.system]},
            {"role": "user", "content": [text]},
        ]
        return self.chat(model, messages, model="gpt-4o")


async def client(job: CompletionJob, feedback: Feedback) -> None:
    """What a service does."""
    async with Client("amqp://localhost/") as opened:
        assert_type(opened, Client)
        assert_type(await opened.call(job), CompletionResult)
        assert_type(await opened.call(feedback), Gradients)
        result = await opened.complete(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
        assert_type(result, CompletionResult)
        assert_type(result.texts, tuple[str | None, ...])
        assert result.graph is not None
        assert result.output is not None
        assert_type(await opened.feedback(result.graph, {result.output: "Shorter."}), Gradients)
        assert_type(await opened.enqueue(job, results="nightly"), str)
        await opened.cancel("job-1")


def program(model: OpenAI) -> None:
    """What a program that learns does."""
    backtalk.set_backward_model_client("openai/gpt-4o")
    assistant = Assistant()
    response = assistant.forward(model, Variable("Hello", role="question"))
    assert_type(response, Variable)
    response.backward(Variable("Be shorter.", role="feedback"))
    optimizer = optim.TGD(assistant.parameters(), model_client=model)
    optimizer.step()
    optimizer.clear_grad()


def wrong(model: OpenAI) -> None:
    """What must not pass: an ignore that is not needed is an error of mypy's."""
    Variable(role=1)  # type: ignore[arg-type]
    Client(url=5)  # type: ignore[arg-type]
    optim.TGD("prompt", model_client=model)  # type: ignore[arg-type]
    _ = backtalk.nothing  # type: ignore[attr-defined]


def told(response: Response, gradient: Gradient) -> None:
    """What responses and gradients tell."""
    assert_type(response.message, dict[str, Any])
    assert_type(gradient.entry, Entry)
    assert_type(gradient.item, int | None)
