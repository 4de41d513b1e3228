"""What is nested deeply in a message, or in what a model says, and stands a few levels deeper in the answer."""

from __future__ import annotations

import pytest
from fixtures.fuzz.replies import PlayedModel, Reply
from fixtures.fuzz.stage import answer_in, worked_on
from fixtures.fuzz.texts import written

from backtalk.transport.envelope import Envelope

# readers of JSON follow 200 levels, and no more
DEPTHS = (100, 190, 198, 250)
SAID = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}


def nested(levels):
    return {"a": nested(levels - 1)} if levels else 1


def answered(job, completion):
    """Return a worker's answer to a job, as its client reads it."""
    request = Envelope(written(job), message_id="job", reply_to="mine")
    fared = worked_on("forward", request, PlayedModel([Reply(body=written(completion))]))
    (sent,) = fared.of("forward")["answers"]
    return answer_in("forward", sent, request)


@pytest.mark.parametrize("levels", DEPTHS)
def test_the_answer_to_a_deeply_nested_job_can_be_read(levels):
    """The tape holds an argument three levels deeper than the job did: it is refused, or its answer can be read."""
    message = {"role": "user", "content": [{"data": "Hello."}]}
    job = {"model": "m", "messages": [message], "metadata": nested(levels)}
    answer = answered(job, {"choices": [SAID]})
    assert answer.status == "completed" or answer.error.code == "invalid_message"


@pytest.mark.parametrize("levels", DEPTHS)
def test_the_answer_with_a_deeply_nested_completion_can_be_read(levels):
    """It stands two levels deeper than the endpoint wrote it: that is no completion, or the answer can be read."""
    job = {"model": "m", "messages": [{"role": "user", "content": "Hello."}]}
    answer = answered(job, {"choices": [SAID], "extra": nested(levels)})
    assert answer.status == "completed" or answer.error.code == "upstream_rejected"
