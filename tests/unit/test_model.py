"""What the port to models knows of usage, and that the tests' own model keeps to it."""

import pytest

from backtalk.runtime.model import Completion
from backtalk.runtime.streamed import Assembly
from backtalk.wire.errors import BacktalkError, Code, Refused
from backtalk.wire.usage import total

BODY = {"model": "m", "messages": []}
REFUSED = Refused(Code.UPSTREAM_REJECTED, "no")


async def test_the_scripted_model_spells_its_replies(scripted):
    """Who listens begins once, and hears the very completion that is returned."""

    class Ear(list):
        begun = 0

        def begin(self):
            self.begun += 1

        hear = list.append

    called = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    said = {"role": "assistant", "content": None, "refusal": "no", "tool_calls": [called]}
    replies = ("Good day.", [{"index": 1, "message": said, "finish_reason": "tool_calls"}], REFUSED)
    model, ear = scripted(*replies), Ear()
    for _ in replies[:2]:
        whole = await model.complete("openai", BODY, ear, place="here")
        assembly = Assembly()
        assert [assembly.add(chunk) for chunk in ear] == list(ear)
        assert assembly.whole() == whole.body
        ear.clear()
    with pytest.raises(BacktalkError):
        await model.complete("openai", BODY, listener=ear, place="here")
    assert (ear, ear.begun, len(model.bodies)) == ([], 3, 3)


@pytest.mark.parametrize(
    ("usages", "sum_"),
    [
        ([], {}),
        ([{}], {}),
        ([{"a": 1}, {"a": 2, "b": 0.5}], {"a": 3, "b": 0.5}),
        ([{"d": {"x": 1, "y": 2}}, {"d": {"x": 3}}, {}], {"d": {"x": 4, "y": 2}}),
        ([{"d": None}, {"d": {"x": 1}}], {"d": {"x": 1}}),
        ([{"d": {"x": 1}}, {"d": None}], {"d": {"x": 1}}),
        ([{"tier": "default", "flag": True, "list": [1]}], {}),
    ],
    ids=str,
)
def test_usages_are_summed_with_their_details(usages, sum_):
    """Numbers add up however deep; what is no number is left out."""
    assert total(usages) == sum_


def test_summing_leaves_the_usages_as_they_are():
    """The usage of a completion is part of the answer."""
    usage = {"d": {"x": 1}}
    total([usage, usage])
    assert usage == {"d": {"x": 1}}


@pytest.mark.parametrize(
    ("body", "usage"), [({}, {}), ({"usage": None}, {}), ({"usage": {"a": 1}}, {"a": 1})]
)
def test_a_completion_without_usage_cost_nothing_that_is_known(body, usage):
    """Some servers leave the usage out."""
    assert Completion(body).usage == usage
