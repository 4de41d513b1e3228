"""What every answer has in common."""

import json

import pytest

from backtalk.wire.codec import encode
from backtalk.wire.errors import Code, Error, Refused
from backtalk.wire.feedback import Entry, Failure, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionResult

ERROR = Error(
    code=Code.INVALID_MESSAGE, message="messages: is missing", retryable=False, details={"path": "m"}
)


def test_a_result_has_the_fields_of_the_design():
    """Each field stands in the JSON, also when there is nothing in it."""
    assert json.loads(encode(CompletionResult(id="1", status="completed"))) == {
        "schema_version": 1,
        "id": "1",
        "status": "completed",
        "completions": [],
        "outputs": [],
        "output": None,
        "graph": None,
        "usage": {},
        "metadata": None,
        "error": None,
    }


def test_gradients_have_the_fields_of_the_design():
    """Entries and failures say all that the design lists; `incomplete` only when it is so."""
    entry = {
        "text": "Shorten it.",
        "role": "feedback to instruction",
        "operation": "op",
        "input": "messages/0/content/0",
        "sample": 1,
        "feedback": ["feedback/0"],
        "how": "model",
    }
    failure = {"variable": "v", "operation": "op", "sample": None, "error": ERROR.model_dump(mode="json")}
    answer = Gradients(
        id="1",
        status="partial",
        gradients={"v": (Entry(**entry), Entry(**entry, incomplete=True)), "w": ()},
        failures=(Failure(**failure),),
    )
    assert json.loads(encode(answer)) == {
        "schema_version": 1,
        "id": "1",
        "status": "partial",
        "gradients": {"v": [entry, {**entry, "incomplete": True}], "w": []},
        "failures": [failure],
        "usage": {},
        "metadata": None,
        "error": None,
    }


def test_texts_of_gradients_leave_the_empty_ones_out():
    """Empty means that nothing should change."""
    entries = tuple(
        Entry(text=text, role="r", operation=None, input=None, sample=None, feedback=(), how="copied")
        for text in ("first", "", "second")
    )
    assert Gradients(id="1", status="completed", gradients={"v": entries}).texts("v") == ("first", "second")


@pytest.mark.parametrize("kind", [CompletionResult, Gradients])
def test_a_failed_answer_says_why_and_returns_the_metadata(kind):
    """Every request gets a terminal answer, also when nothing could be done."""
    answer = kind.failed("1", ERROR, {"mine": 1})
    assert (answer.status, answer.error, answer.metadata) == ("failed", ERROR, {"mine": 1})
    with pytest.raises(Refused) as caught:
        answer.raise_for_status()
    assert caught.value.error == ERROR


@pytest.mark.parametrize("status", ["completed", "partial"])
def test_an_answer_with_something_in_it_does_not_raise(status):
    """Only a failed request raises."""
    answer = CompletionResult(id="1", status=status, error=None)
    assert answer.raise_for_status() is answer


def test_a_result_that_is_too_large_is_sent_without_its_graph():
    """The completions were paid for; the graph can be left out, and it says so."""
    whole = CompletionResult(id="1", status="completed", outputs=("o",), output="o", graph=Graph())
    lighter = whole.lighter()
    assert (lighter.graph, lighter.graph_omitted, lighter.outputs) == (None, True, ("o",))
    assert json.loads(encode(lighter))["graph_omitted"] is True
    assert lighter.lighter() is None


def test_nothing_can_be_left_out_of_gradients():
    """All of it was asked for."""
    assert Gradients(id="1", status="completed").lighter() is None


def test_the_texts_of_a_result_are_the_first_choices():
    """One text for each item, None where the item failed or said nothing."""
    said = {"choices": [{"message": {"content": "one"}}, {"message": {"content": "two"}}]}
    silent = {"choices": [{"message": {"content": None}}]}
    result = CompletionResult(id="1", status="partial", completions=(said, {"error": {}}, silent))
    assert result.texts == ("one", None, None)
    assert result.text == "one"
    assert CompletionResult(id="1", status="failed").text is None
