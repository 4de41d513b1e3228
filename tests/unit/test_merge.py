"""Several gradients of one text made into one."""

import asyncio
import re

import pytest

from backtalk.wire.errors import Code, Refused, Unavailable
from backtalk.wire.policy import Policy
from backward_worker.ask import ModelAsker, Own, Place
from backward_worker.budget import Budget
from backward_worker.compose import Part
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.merge import Merger
from backward_worker.step import Partly
from backward_worker.tokens import estimated

DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
FEEDBACK = re.compile(r'<fence-(\w+) kind="feedback">\n(.*?)\n</fence-\1>', re.DOTALL)


def merger(model, *, most=None, budget=None, **policy):
    asker = ModelAsker(model, None, None, {}, budget or Budget())
    place = Place("merge", "op", ("messages/0/content/0",))
    return Merger(asker, Own("openai", "own"), place, "instruction", "Be kind.", Policy(**policy), most)


def parts(*texts):
    return [Part(f"From reader {at}", text) for at, text in enumerate(texts)]


def shown_in(body):
    return [text for _, text in FEEDBACK.findall(body["messages"][-1]["content"])]


async def test_nothing_is_merged_into_nothing_without_a_call(scripted):
    """There is nobody to ask about."""
    model = scripted("never asked")
    assert await merger(model).merge([], depth=2) == EMPTY
    assert model.bodies == []


async def test_what_one_says_alone_is_taken_word_for_word(scripted):
    """As long as it fits."""
    model = scripted("never asked")
    assert await merger(model, most=20).merge(parts("Shorten it."), depth=2) == TextGradient(
        "Shorten it.", "merged"
    )
    assert model.bodies == []


async def test_what_one_says_at_too_great_a_length_is_made_shorter(scripted):
    """By a question that says how long it may be."""
    model = scripted("Shorten it.")
    merged = await merger(model, most=100).merge(parts("Shorten it. " * 50), depth=2)
    assert merged.text == "Shorten it."
    assert "at most 100 characters" in model.prompts[0]


async def test_several_are_shown_with_their_origins_and_made_one(scripted):
    """In their order, and the text with its role."""
    model = scripted("both")
    assert await merger(model).merge(parts("one", "two"), depth=2) == TextGradient("both", "merged")
    (body,) = model.bodies
    prompt = body["messages"][-1]["content"]
    assert shown_in(body) == ["one", "two"]
    assert 'kind="variable">\nBe kind.\n<' in prompt
    assert '"instruction"' in prompt
    assert prompt.index("1. From reader 0") < prompt.index("2. From reader 1")
    assert "characters" not in prompt
    assert body["model"] == "own"


async def test_many_are_merged_in_groups_that_fit_and_none_is_left_out(scripted):
    """Sixty-four at once would pass the prompt: every one of them is in some question, whole."""
    said = [f"point {at}: " + "word " * 60 for at in range(64)]
    model = scripted(lambda body: f"merged {len(shown_in(body))}")
    merged = await merger(model, prompt_tokens=3000).merge(parts(*said), depth=2)
    *first, last = model.bodies
    assert [text for body in first for text in shown_in(body)] == said
    assert [len(shown_in(body)) for body in first] == [8] * 8
    assert shown_in(last) == ["merged 8"] * 8
    assert merged.text == "merged 8"
    for body in model.bodies:
        assert sum(estimated(message["content"]) for message in body["messages"]) <= 3000
    assert len(set(model.places)) == len(model.places) == 9


async def test_a_model_that_sees_nothing_in_what_others_said_does_not_unsay_it(scripted):
    """NO FEEDBACK is no answer to this question."""
    merged = await merger(scripted("NO FEEDBACK")).merge(parts("one", "two"), depth=2)
    assert merged.text == "one\ntwo"


async def test_where_nobody_can_be_asked_everything_is_kept_and_the_failure_told(scripted):
    """One behind the other."""
    merged = await merger(scripted(DOWN)).merge(parts("one", "two"), depth=2)
    assert isinstance(merged, Partly)
    assert merged.gradient.text == "one\ntwo"
    assert merged.error.code == Code.UPSTREAM_UNAVAILABLE


@pytest.fixture
def slow(scripted):
    """Return a model that refuses the first of several questions at once, and takes its time for the others."""

    class Slow(scripted):
        def __init__(self, *replies):
            super().__init__(*replies)
            self.answered = 0

        async def complete(self, endpoint, body, listener=None, *, place):
            if "point 0:" not in str(body):
                for _ in range(20):
                    await asyncio.sleep(0)
            reply = await super().complete(endpoint, body, listener, place=place)
            self.answered += 1
            return reply

    return Slow(lambda body: DOWN if "point 0:" in str(body) else "merged")


async def test_a_failure_leaves_no_question_on_its_way(slow):
    """What is being paid for is waited for, and counted."""
    said = [f"point {at}: " + "word " * 60 for at in range(64)]
    before = asyncio.all_tasks()
    one = merger(slow, prompt_tokens=3000)
    merged = await one.merge(parts(*said), depth=2)
    assert isinstance(merged, Partly)
    assert asyncio.all_tasks() == before
    assert slow.answered == len(one.asker.paid) == 7


async def test_the_failure_that_is_told_does_not_depend_on_which_came_first(scripted):
    """It is that of the first group, in the order of what was said."""
    said = [f"point {at}: " + "word " * 60 for at in range(64)]

    class Failing(scripted):
        def __init__(self, patience):
            super().__init__("x")
            self.patience = patience

        async def complete(self, endpoint, body, listener=None, *, place):
            first = "point 0:" in str(body)
            for _ in range(self.patience if first else 5):
                await asyncio.sleep(0)
            raise Refused(Code.UPSTREAM_REJECTED, "first" if first else "other")

    async def error(patience):
        merged = await merger(Failing(patience), prompt_tokens=3000).merge(parts(*said), depth=2)
        return merged.error.message

    assert await error(0) == await error(20) == "first"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 17, 100])
@pytest.mark.parametrize("length", [1, 100, 5000])
async def test_merging_ends(scripted, count, length):
    """Also where what models make of it is as long as what they were given."""
    model = scripted("word " * length)
    merged = await merger(model, prompt_tokens=1000, most=None).merge(
        parts(*["word " * length] * count), depth=2
    )
    assert merged.text
    assert len(model.bodies) <= 2 * count
