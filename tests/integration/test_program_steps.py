"""Steps that a program records itself, through the backward worker on a real broker."""

from pathlib import Path

from backtalk.wire.codec import decode
from backtalk.wire.graph import Graph

DATA = Path(__file__).parents[1] / "data"
GRAPH = decode((DATA / "graph.v1.operations.json").read_bytes(), Graph)


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
