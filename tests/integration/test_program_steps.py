"""Steps that a program records itself, through the backward worker on a real broker."""

from pathlib import Path

from backtalk.wire.codec import decode, validate
from backtalk.wire.graph import Graph

DATA = Path(__file__).parents[1] / "data"
GRAPH = decode((DATA / "graph.v1.operations.json").read_bytes(), Graph)

EVALUATED = validate(
    {
        "variables": [
            {"id": "prompt", "data": "Add the numbers.", "role": "instruction", "requires_grad": True},
            {"id": "sums", "data": ["1+1", "1+2", "2+2"], "role": "sum"},
            {"id": "answers", "data": ["2", "3", "5"], "role": "answer", "producer": "chat"},
            {"id": "score", "data": 0.67, "role": "score", "producer": "exact"},
            {"id": "why", "data": "Two of three are right.", "role": "explanation", "producer": "exact"},
        ],
        "operations": [
            {
                "op": "chat_completion",
                "id": "chat",
                "endpoint": "openai",
                "model": "gpt-4o",
                "messages": [
                    {"role": "system", "content": ["prompt"]},
                    {"role": "user", "content": ["sums"]},
                ],
                "outputs": ["answers"],
            },
            {
                "op": "evaluate",
                "id": "exact",
                "inputs": ["answers"],
                "outputs": ["score", "why"],
                "purpose": "exact match",
                "scores": [1, 1, 0],
                "explanations": ["", "", "It should be 4."],
                "succeeded": [True, True, False],
                "targets": ["2", "3", "4"],
                "reduction": "mean",
            },
        ],
    },
    Graph,
)


async def test_feedback_passes_through_the_steps_of_a_program_without_a_call(round_trip):
    """Of five operations one is a model's: one call; what reaches a text by two ways is said once."""
    client = await round_trip.client()
    feedback = {"two": "Say bad.", "one": ""}
    from_ends = await client.feedback(GRAPH, feedback, wrt=["head", "prompt"])
    assert (from_ends.status, from_ends.usage["calls"]) == ("completed", 1)
    (heading,) = {entry.text for entry in from_ends.gradients["head"]}
    assert heading == 'Said of "second line", part 2 of 2 of this text: Say bad.'
    assert [entry.how for entry in from_ends.gradients["head"]] == ["copied"]
    (prompt,) = from_ends.gradients["prompt"]
    assert (prompt.how, bool(prompt.text)) == ("model", True)
    (call,) = round_trip.model.calls
    assert "put this in its place" in call.messages[1]["content"]


async def test_an_evaluation_explains_itself_and_costs_a_call_for_each_failure_alone(round_trip):
    """A batch of three, two of them right: the prompt hears of the third, from its explanation."""
    client = await round_trip.client()
    told = await client.feedback(EVALUATED, {"score": None}, wrt=["prompt"])
    assert (told.status, told.usage["calls"]) == ("completed", 1)
    assert [(entry.sample, entry.how) for entry in told.gradients["prompt"]] == [
        (0, "empty"),
        (1, "empty"),
        (2, "model"),
    ]
    assert "It should be 4." in told.gradients["prompt"][2].text
    (call,) = round_trip.model.calls
    assert 'The answer was evaluated with the score 0, by "exact match"' in call.messages[1]["content"]
