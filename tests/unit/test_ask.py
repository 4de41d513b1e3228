"""One question to the backward model: which model is asked, what a reply means, and when to ask again."""

import pytest

from backtalk.runtime.model import Completion
from backtalk.wire.errors import Code, Refused, Stopped, Unavailable
from backward_worker.ask import ModelAsker, Own, Place, Question
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.replies import read_text

MESSAGES = [{"role": "user", "content": "How should it change?"}]
REFUSAL = {"index": 0, "message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}


def choice(content, reason="stop"):
    return [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}]


OWN = Own("local", "org/own")


def asker(model, *, endpoint=None, named=None, **arguments):
    return ModelAsker(model, endpoint, named, arguments)


def question(own=OWN):
    return Question(Place("ask", "op", ("messages/0/content/0",)), own, 1, lambda: MESSAGES)


# ---- whom


@pytest.mark.parametrize(
    ("endpoint", "named", "asked", "model_name"),
    [
        (None, None, "local", "org/own"),
        (None, "critic", "openai", "critic"),
        ("local", "critic", "local", "critic"),
        ("openai", None, "openai", "org/own"),
    ],
)
async def test_the_operations_own_model_is_asked_unless_another_is_named(
    scripted, endpoint, named, asked, model_name
):
    """A named model is one of the default endpoint, unless the endpoint is named as well."""
    model = scripted("Shorten it.")
    await asker(model, endpoint=endpoint, named=named).text(question())
    assert model.asked == [asked]
    assert model.bodies[0]["model"] == model_name


@pytest.mark.parametrize(
    ("endpoint", "named", "asked"), [(None, "critic", "openai"), ("local", "critic", "local")]
)
async def test_where_no_model_ran_the_named_one_is_asked(scripted, endpoint, named, asked):
    """A function has no model of its own."""
    model = scripted("Shorten it.")
    assert await asker(model, endpoint=endpoint, named=named).text(question(None)) == TextGradient(
        "Shorten it.", "model"
    )
    assert (model.asked, model.bodies[0]["model"]) == ([asked], "critic")


@pytest.mark.parametrize("endpoint", [None, "local"])
async def test_where_no_model_ran_and_none_is_named_nobody_is_asked(scripted, endpoint):
    """The error says both places where one can be named."""
    model = scripted("never asked")
    error = await asker(model, endpoint=endpoint).text(question(None))
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, "model")
    assert "`model`" in error.message
    assert "BACKTALK_BACKWARD_MODEL" in error.message
    assert model.bodies == []


async def test_nothing_is_sent_but_what_was_given(scripted):
    """No sampling argument is Backtalk's own, and the operation's are not repeated."""
    model = scripted("Shorten it.")
    await asker(model).text(question())
    assert model.bodies == [{"model": "org/own", "messages": MESSAGES}]


async def test_arguments_of_the_feedback_are_sent(scripted):
    """Whoever wants a temperature says so."""
    model = scripted("Shorten it.")
    await asker(model, temperature=0, max_tokens=5).text(question())
    assert model.bodies == [{"model": "org/own", "messages": MESSAGES, "temperature": 0, "max_tokens": 5}]


# ---- what a reply means


@pytest.mark.parametrize(
    ("reply", "gradient"),
    [
        ("Shorten it.", "Shorten it."),
        ("  Shorten\nit. \n", "Shorten\nit."),
        ("NO FEEDBACK", None),
        ("\n NO FEEDBACK \n", None),
        ("<think>Is it?</think>NO FEEDBACK", None),
        ("NO FEEDBACK.", "NO FEEDBACK."),
        ("no feedback", "no feedback"),
        ("There is NO FEEDBACK", "There is NO FEEDBACK"),
        ("<think>Hm.</think>Shorten it.", "Shorten it."),
        ("<think>\nHm.\n\nHm.\n</think>\n\nShorten it.", "Shorten it."),
        ("<think></think>Shorten it.", "Shorten it."),
        ("<think>a</think><think>b</think>Shorten it.", "Shorten it."),
        ("Hm, hm.</think>Shorten it.", "Shorten it."),
        ("Use the <b> tag.", "Use the <b> tag."),
        ("Let it think.", "Let it think."),
    ],
)
async def test_the_whole_reply_is_the_gradient(scripted, reply, gradient):
    """Thoughts are removed, and exactly NO FEEDBACK is the empty gradient."""
    expected = EMPTY if gradient is None else TextGradient(gradient, "model")
    assert await asker(scripted(reply)).text(question()) == expected


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        ("Be brief. <think>Hm.</think>Be kind.", ["Be brief.", "Be kind."]),
        ("Be brief.\n<think>Is that all?</think>", ["Be brief."]),
        ("<think>a</think>Be brief. <think>b</think>Be kind.", ["Be brief.", "Be kind."]),
        ("Be brief.<think>Hm, I am cut", ["Be brief."]),
    ],
)
async def test_what_stands_around_a_thought_is_kept(scripted, reply, kept):
    """Only `<think>…</think>` is removed, not what was said before it."""
    gradient = await asker(scripted(reply)).text(question())
    assert all(text in gradient.text for text in kept)
    assert "think" not in gradient.text
    assert "Hm" not in gradient.text


# ---- when to ask again

UNUSABLE = {
    "empty": "",
    "null": None,
    "blank": " \n\t ",
    "a thought alone": "<think>Hm.</think>",
    "a thought without an end": "<think>Hm, and then",
    "cut off": choice("Shorten", "length"),
    "filtered": choice("Shorten", "content_filter"),
    "refused": [REFUSAL],
    "refused with words": [{**REFUSAL, "message": {"content": "Sorry", "refusal": "I cannot"}}],
}


@pytest.mark.parametrize("reply", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_an_unusable_reply_is_asked_again_once(scripted, reply):
    """The second chance is asked with the very same words, and both are paid for."""
    model = scripted(reply, "Shorten it.")
    one = asker(model)
    assert await one.text(question()) == TextGradient("Shorten it.", "model")
    assert len(model.bodies) == 2
    assert model.bodies[0] == model.bodies[1]
    assert len(one.paid) == 2


@pytest.mark.parametrize("reply", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_an_unusable_reply_twice_is_a_failure(scripted, reply):
    """A failure is a status and never text, and a third question would not help."""
    model = scripted(reply, reply, "Shorten it.")
    one = asker(model)
    error = await one.text(question())
    assert error.code == Code.UPSTREAM_REJECTED
    assert "`model`" in error.message
    assert error.details["reason"]
    assert len(model.bodies) == len(one.paid) == 2


@pytest.mark.parametrize(
    "error",
    [
        Unavailable(Code.UPSTREAM_UNAVAILABLE, "down"),
        Refused(Code.UPSTREAM_REJECTED, "no"),
        Stopped(Code.CANCELLED, "stopped"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_endpoint_that_fails_is_not_asked_again_here(scripted, error):
    """Retries of transient trouble have one owner, and it is not this."""
    model = scripted(error, "Shorten it.")
    one = asker(model)
    assert await one.text(question()) == error.error
    assert len(model.bodies) == 1
    assert one.paid == []


async def test_what_was_paid_before_a_failure_is_counted(scripted):
    """The first reply cost something although it was of no use."""
    one = asker(scripted("", Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")))
    assert (await one.text(question())).code == Code.UPSTREAM_UNAVAILABLE
    assert len(one.paid) == 1


@pytest.mark.parametrize("reason", [None, "stop", "tool_calls", "eos"])
def test_any_other_reason_to_finish_is_fine(reason):
    """Servers name the natural end in many ways."""
    said = Completion({"choices": choice("Shorten it.", reason)})
    assert read_text(said).text == "Shorten it."
