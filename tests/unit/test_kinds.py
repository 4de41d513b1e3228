"""Which message belongs to which queue."""

import pytest

from backtalk.wire.errors import Code, Refused
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.jobs import CompletionJob, CompletionResult
from backtalk.wire.kinds import BACKWARD, FORWARD, check_type


def test_the_two_kinds_are_those_of_the_design():
    """Types, models and roles go together."""
    assert (FORWARD.role, FORWARD.request_type, FORWARD.answer_type) == (
        "forward",
        "completion.job.v1",
        "completion.result.v1",
    )
    assert (FORWARD.request, FORWARD.answer) == (CompletionJob, CompletionResult)
    assert (BACKWARD.role, BACKWARD.request_type, BACKWARD.answer_type) == (
        "backward",
        "feedback.v1",
        "gradients.v1",
    )
    assert (BACKWARD.request, BACKWARD.answer) == (Feedback, Gradients)


@pytest.mark.parametrize(
    ("stated", "kind"),
    [(None, FORWARD), (None, BACKWARD), ("completion.job.v1", FORWARD), ("feedback.v1", BACKWARD)],
)
def test_a_message_of_the_right_type_or_of_none_is_taken(stated, kind):
    """Without a type the queue decides."""
    check_type(stated, kind)


@pytest.mark.parametrize(
    ("stated", "kind", "code"),
    [
        ("completion.job.v2", FORWARD, Code.UNSUPPORTED_SCHEMA_VERSION),
        ("completion.job.v10", FORWARD, Code.UNSUPPORTED_SCHEMA_VERSION),
        ("feedback.v2", BACKWARD, Code.UNSUPPORTED_SCHEMA_VERSION),
        ("feedback.v1", FORWARD, Code.INVALID_MESSAGE),
        ("feedback.v2", FORWARD, Code.INVALID_MESSAGE),
        ("completion.job.v1", BACKWARD, Code.INVALID_MESSAGE),
        ("completion.result.v1", FORWARD, Code.INVALID_MESSAGE),
        ("completion.job", FORWARD, Code.INVALID_MESSAGE),
        ("completion.job.vX", FORWARD, Code.INVALID_MESSAGE),
        ("completion.job.v2 ", FORWARD, Code.INVALID_MESSAGE),
        ("completionxjob.v2", FORWARD, Code.INVALID_MESSAGE),
        ("Completion.Job.v1", FORWARD, Code.INVALID_MESSAGE),
        ("application/json", FORWARD, Code.INVALID_MESSAGE),
    ],
)
def test_any_other_type_is_refused(stated, kind, code):
    """A later version is told as such, anything else does not belong into the queue."""
    with pytest.raises(Refused) as caught:
        check_type(stated, kind)
    assert caught.value.error.code == code
    assert caught.value.error.message.startswith("type: ")
    assert kind.request_type in caught.value.error.message
