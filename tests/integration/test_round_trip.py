"""Both workers, a client, a broker and a model: what a user does first."""

from __future__ import annotations

import asyncio

from backtalk import Client
from backtalk.local.simulated_model import SimulatedModel

SYSTEM = {
    "id": "system",
    "data": "You are a helpful assistant.",
    "role": "system instruction",
    "requires_grad": True,
}


async def test_a_job_is_answered_and_feedback_on_it_gives_a_gradient(client: Client) -> None:
    """The response travels back with its graph, and feedback on that graph criticises the system prompt."""
    result = await client.complete(
        model="gpt-4o",
        messages=[
            {"role": "system", "content": [SYSTEM]},
            {"role": "user", "content": "Translate 'Hello' to {language}."},
        ],
        inputs={"language": "Italian"},
    )
    assert result.text == "Ciao"
    assert result.output is not None
    gradients = await client.feedback(result.graph, {result.output: "Use only capital letters."})
    assert gradients.status == "completed"
    (entry,) = gradients.gradients["system"]
    assert "capital letters" in entry.text
    assert (entry.how, entry.input, entry.role) == (
        "model",
        "messages/0/content/0",
        "feedback to system instruction",
    )


async def test_many_calls_are_in_flight_on_one_connection(client: Client, model: SimulatedModel) -> None:
    """Every caller gets its own answer, whatever the order of arrival."""
    texts = [f"number {at}" for at in range(200)]
    results = await asyncio.gather(
        *(client.complete(model="m", messages=[{"role": "user", "content": text}]) for text in texts)
    )
    assert [result.status for result in results] == ["completed"] * 200
    assert all(text in (result.text or "") for text, result in zip(texts, results, strict=True))
    assert model.total == 200


async def test_a_batch_is_one_job_with_aligned_items(client: Client) -> None:
    """A list in the inputs makes as many completions, in its order."""
    result = await client.complete(
        model="m",
        messages=[{"role": "user", "content": "Translate 'Hello' to {language}."}],
        inputs={"language": ["Italian", "French", "German"]},
        backtalk={"record": "always"},
    )
    assert result.texts == ("Ciao", "Bonjour", "Hallo")
    assert result.graph is not None
    assert result.graph.index.variables[result.outputs[0]].data == result.texts
