"""Programs of Variables on the real stack: called, criticised, and told what should change."""

import asyncio

import backtalk as afnio
from backtalk import Variable, set_backward_model_client
from backtalk import cognitive as cog
from backtalk.models.openai import OpenAI


class Assistant(cog.Module):
    def __init__(self):
        super().__init__()
        self.chat = cog.ChatCompletion()

    def forward(self, fwd_model, messages, inputs, **completion_args):
        return self.chat(fwd_model, messages, inputs, **completion_args)


def translation(language="Italian"):
    """Return the trainable system prompt, the messages and the inputs of the first program of the guide."""
    system = Variable("You are a helpful assistant.", role="system instruction", requires_grad=True)
    user = Variable("Translate 'Hello' to {language}.", role="user query")
    messages = [{"role": "system", "content": [system]}, {"role": "user", "content": [user]}]
    return system, messages, {"language": afnio.Variable(language, role="language")}


def test_the_first_program_runs_as_it_is_written(program):
    """A module, a call, feedback in words: the prompt has one gradient, and nothing else was asked."""
    set_backward_model_client("openai/gpt-4o")
    system, messages, inputs = translation()
    response = Assistant()(OpenAI(), messages, inputs=inputs, model="gpt-4o", temperature=0.7)
    response.backward(Variable("Use only capital letters.", role="feedback"))
    assert response.data == "Ciao"
    assert "capital letters" in system.grad[0].data
    assert [call.model for call in program.model.calls] == ["gpt-4o", "gpt-4o"]
    assert program.model.calls[0].arguments["temperature"] == 0.7


async def test_every_blocking_call_has_an_awaitable_twin(program):
    """In a running loop both ways work: awaited, and blocking as a notebook's cell does."""
    system, messages, inputs = translation()
    assistant, client = Assistant(), OpenAI(model="gpt-4o")
    awaited, blocking = await assistant.acall(client, messages, inputs), assistant(client, messages, inputs)
    assert awaited.data == blocking.data == "Ciao"
    await awaited.abackward(Variable("Use only capital letters."))
    blocking.backward(Variable("Use only capital letters."))
    assert len(system.grad) == 2


async def test_calls_run_side_by_side(program):
    """Ten awaited calls of 0.2 s take no longer than a few of them."""
    program.model.rule(delay=0.2)
    _, messages, inputs = translation()
    chat, client = cog.ChatCompletion(model="gpt-4o"), OpenAI()
    async with asyncio.timeout(1.5):
        answers = await asyncio.gather(*(chat.acall(client, messages, inputs) for _ in range(10)))
    assert {answer.data for answer in answers} == {"Ciao"}
