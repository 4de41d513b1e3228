"""The request of the backward worker."""

import json

import pytest

from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Refused
from backtalk.wire.feedback import Feedback

GRAPH = {"variables": [{"id": "a", "data": "x", "role": "r"}]}
ITEM = {"variable": "a", "text": "Shorter."}


def feedback(**fields):
    return decode(json.dumps({"graph": GRAPH, "feedback": [ITEM], **fields}).encode(), Feedback)


def test_one_graph_and_a_list_of_graphs_are_both_taken():
    """A caller who has one fragment need not wrap it."""
    assert feedback().graphs == feedback(graph=[GRAPH]).graphs
    assert len(feedback(graph=[GRAPH, GRAPH]).graphs) == 2


@pytest.mark.parametrize(
    ("text", "kept"),
    [("Shorter.", "Shorter."), ("", ""), (None, None), (["a", ""], ("a", "")), (["a"], ("a",))],
    ids=repr,
)
def test_a_text_is_a_text_or_one_for_each_item_or_null(text, kept):
    """Empty says that nothing should change; null asks an evaluator."""
    assert feedback(feedback=[{"variable": "a", "text": text}]).feedback[0].text == kept


def test_feedback_survives_the_round_trip():
    """What a client encodes is what the worker decodes."""
    made = feedback(
        feedback=[ITEM, {**ITEM, "id": "mine", "score": 0.5, "source": "the customer"}],
        wrt=["a"],
        model="critic",
        arguments={"temperature": 0},
        backtalk={"metadata": {"a": 1}, "endpoint": "e", "deadline": "2026-01-31T12:00:00Z"},
    )
    assert decode(encode(made), Feedback) == made


@pytest.mark.parametrize("name", ["messages", "model", "n", "stream", "tools", "tool_choice"])
def test_what_the_worker_decides_itself_is_no_argument(name):
    """Each of its calls asks one thing and takes one answer."""
    with pytest.raises(Refused, match=f"arguments: {name} "):
        feedback(arguments={name: 1})


def test_any_other_argument_is_kept_as_it_came():
    """Endpoints know more arguments than Backtalk."""
    arguments = {"temperature": 0.5, "max_tokens": 100, "reasoning": {"effort": "low"}, "seed": None}
    assert feedback(arguments=arguments).arguments == arguments
