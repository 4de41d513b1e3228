"""`result.message`: a reply as a message of the next job."""

import pytest

from backtalk.wire.jobs import CompletionJob, CompletionResult

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
VARIABLE = {
    "id": "out",
    "data": "Well.\n!function_call:{}",
    "role": "response",
    "requires_grad": True,
    "producer": "op",
}


def result(*messages, **fields):
    completions = [{"choices": [{"index": 0, "message": message}]} for message in messages]
    return CompletionResult.model_validate(
        {"id": "1", "status": "completed", "completions": completions, **fields}
    )


def recorded(graph_of, data):
    return graph_of({"u": "Hi", "out": {**VARIABLE, "data": data}}, ("op", "u", "out")).model_dump(
        mode="json"
    )


def test_a_recorded_reply_carries_its_variable_beside_the_calls(graph_of):
    """So that the chain to the step before is not cut."""
    said = {"role": "assistant", "content": "Well.", "tool_calls": [CALL]}
    answer = result(said, output="out", graph=recorded(graph_of, VARIABLE["data"]))
    assert answer.message == {"role": "assistant", "content": [VARIABLE], "tool_calls": [CALL]}


def test_a_reply_that_was_not_recorded_is_its_text():
    """Nobody wanted a graph, so there is none to go on with."""
    said = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]}
    assert result(said).message == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert result({"role": "assistant", "content": "Hi"}).message == {"role": "assistant", "content": "Hi"}


def test_a_job_takes_the_message_as_it_is(graph_of):
    """It is written to be sent."""
    said = {"role": "assistant", "content": "Well.", "tool_calls": [CALL]}
    answer = result(said, output="out", graph=recorded(graph_of, "Well."))
    assert CompletionJob.model_validate({"model": "m", "messages": [answer.message]})


def test_a_batch_or_a_failure_is_no_message(graph_of):
    """One message cannot stand for several items, nor for none."""
    said = {"role": "assistant", "content": "Hi"}
    for answer in (
        result(said, said),
        result(),
        CompletionResult.model_validate({"id": "1", "status": "failed", "completions": [{"error": {}}]}),
    ):
        with pytest.raises(ValueError, match="batch"):
            _ = answer.message
