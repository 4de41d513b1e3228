"""What the simulated model says to a request, without HTTP."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from backtalk.local.simulated_completion import Reply, read_request
from backtalk.local.simulated_replies import replies_to
from backtalk.local.simulated_vocabulary import category, sentiment, urgency

EMAILS = Path(__file__).parents[2] / "examples" / "support_emails.jsonl"

# What a person says of each e-mail of the example, in its order: sentiment, urgency, category.
JUDGEMENTS = (
    "-HB +LD =LA -MT -HT =LB -MD +LT -HA =LO -MD +LO -MB =LT -HB +LD -MT =MD -HA =LB -LO +LB -MA =MT +MO "
    "-HD =LA -MT +LT -LD =HO -MB +LA -HT =LD -MO"
)
MEANING = {"-": "negative", "+": "positive", "=": "neutral", "L": "low", "M": "medium", "H": "high"}
CATEGORIES = {"B": "billing", "D": "delivery", "T": "technical", "A": "account", "O": "other"}

ASSISTANT = "You are a helpful assistant."
REMEDY = (
    "State it as an explicit rule that holds for every input, "
    "so that the response follows it without being told each time."
)


def replies(user: object, system: str = ASSISTANT, **arguments: object) -> list[Reply]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return replies_to(read_request({"model": "any", "messages": messages, **arguments}))


def reply(user: object, system: str = ASSISTANT, **arguments: object) -> str:
    (only,) = replies(user, system, **arguments)
    assert only.text is not None
    return only.text


def fence(kind: str, text: str) -> str:
    return f'<fence-1a2b3c4d5e6f kind="{kind}">\n{text}\n</fence-1a2b3c4d5e6f>\n'


def criticism(*feedback: str, variable: str = "Answer the customer.") -> str:
    shown = "".join(fence("feedback", text) for text in feedback)
    prompt = f"{fence('role', 'system prompt')}{shown}Criticise this:\n{fence('variable', variable)}"
    return reply(prompt, "You improve texts. With nothing to say, reply exactly NO FEEDBACK.")


def example_emails() -> list[str]:
    lines = EMAILS.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["body"]["messages"][1]["content"] for line in lines]


# ---- prose


def test_a_message_about_no_known_topic_is_echoed() -> None:
    """Without an instruction or a support topic the reply says back what was said."""
    assert reply("The sky is blue.") == "You said: The sky is blue."


def test_a_long_message_is_echoed_in_short() -> None:
    """An echo stays short whatever it echoes."""
    assert len(reply("blue sky " * 1000)) < 100


def test_a_support_message_is_answered_with_its_topic() -> None:
    """The topic of a support message is found by keywords and named in the reply."""
    assert "your delivery" in reply("Where is my parcel?")


def test_text_parts_are_joined_and_other_parts_counted() -> None:
    """A reply shows that it saw every text part and how many other parts there were."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    parts = [{"type": "text", "text": "Look at"}, image, {"type": "text", "text": "this"}, image]
    assert reply(parts) == "You said: Look at this (2 attachment(s) seen)"


def test_the_same_request_gets_the_same_replies() -> None:
    """Nothing in a reply depends on chance or time."""
    assert replies("Hi", n=3) == replies("Hi", n=3)


def test_each_further_choice_is_marked() -> None:
    """Several choices differ, and always in the same way."""
    texts = [choice.text for choice in replies("Hi", n=3)]
    assert texts == ["You said: Hi", "You said: Hi (variant 2)", "You said: Hi (variant 3)"]


# ---- the look of a reply


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Use only capital letters.", "YOU SAID: HI THERE"),
        ("Reply in UPPER CASE.", "YOU SAID: HI THERE"),
        ("All caps, please.", "YOU SAID: HI THERE"),
        ("Write everything in lower case.", "you said: hi there"),
        ("Use uppercase, no lower case.", "YOU SAID: HI THERE"),
        ("Do not use capital letters.", "You said: Hi there"),
        ("Don't reply as JSON.", "You said: Hi there"),
        ("No more than three words.", "You said: Hi"),
        ("Use at most 2 words.", "You said"),
        ("Use fewer than four words.", "You said: Hi"),
        ("Answer in one word.", "Hi"),
        ("Be polite.", "We apologise for the inconvenience. You said: Hi there"),
        ("Never apologize.", "You said: Hi there"),
        ("Sign as Mia.", "You said: Hi there\n\nKind regards, Mia"),
        ("Sign off as 'The Lamp Team' every time.", "You said: Hi there\n\nKind regards, The Lamp Team"),
        ("Sign every reply as Mia and be brief.", "You said: Hi there\n\nKind regards, Mia"),
        ("Sign as Mia. Use at most 5 words.", "You said\n\nKind regards, Mia"),
        ("Reply as JSON.", '{"reply": "You said: Hi there"}'),
        ("Reply as JSON in capital letters.", '{"REPLY": "YOU SAID: HI THERE"}'),
    ],
)
def test_instructions_about_the_look_are_followed(instruction: str, expected: str) -> None:
    """A reply looks as the system message asks."""
    assert reply("Hi there", instruction) == expected


def test_the_users_instruction_counts_when_the_system_gives_none() -> None:
    """Whoever asks for a look gets it, the system message first."""
    assert reply("Answer in capital letters").isupper()
    assert reply("Answer in capital letters", "Answer in lower case.").islower()


def test_a_developer_message_instructs_like_a_system_message() -> None:
    """Both roles carry instructions."""
    messages = [{"role": "developer", "content": "All caps"}, {"role": "user", "content": "Hi"}]
    assert replies_to(read_request({"model": "any", "messages": messages})) == [Reply("YOU SAID: HI")]


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_a_response_format_of_json_is_followed(kind: str) -> None:
    """With a JSON response format the reply is an object, without any instruction."""
    assert json.loads(reply("Hi", response_format={"type": kind})) == {"reply": "You said: Hi"}


def test_choices_in_json_stay_json() -> None:
    """The mark of a further choice is a key of the object, not text behind it."""
    second = replies("Hi", "Reply as JSON.", n=2)[1]
    assert json.loads(second.text or "") == {"reply": "You said: Hi", "variant": "2"}


# ---- tasks


@pytest.mark.parametrize(
    ("system", "user", "expected"),
    [
        (ASSISTANT, "Translate 'Hello' to Italian.", "Ciao"),
        (ASSISTANT, "Translate 'Good morning!' into German.", "Guten Morgen!"),
        (ASSISTANT, "Translate goodbye to French", "au revoir"),
        (ASSISTANT, "Translate this to Spanish: thank you", "gracias"),
        (ASSISTANT, "How do you say 'cat' in German?", "Katze"),
        (ASSISTANT, "Translate 'Don't panic' to Italian.", "[Italian] Don't panic"),
        (ASSISTANT, "Translate 'Hello' into Klingon.", "[Klingon] Hello"),
        ("Translate every message to French.", "Dog", "Chien"),
        ("You are a translator. Use capital letters.", "Translate 'Hello' to Italian.", "CIAO"),
        ("Reply in Italian.", "The sky is blue.", "[Italian] You said: The sky is blue."),
    ],
)
def test_phrases_are_translated_or_marked(system: str, user: str, expected: str) -> None:
    """The dictionary's phrases are translated; others come back marked with the language."""
    assert reply(user, system) == expected


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Give the sentiment.", "negative"),
        ("Give the sentiment in one word, in capital letters.", "NEGATIVE"),
        ("How urgent is it?", "high"),
        ("Set a priority.", "high"),
        ("Choose a category.", "delivery"),
        ("Give sentiment and category.", "sentiment: negative\ncategory: delivery"),
    ],
)
def test_labels_are_given_as_asked(instruction: str, expected: str) -> None:
    """One label stands alone, several are named."""
    assert reply("My parcel never arrived, this is terrible, I need it today!", instruction) == expected


def test_several_labels_as_json_are_one_object() -> None:
    """The object has exactly the labels asked for."""
    given = reply("I love the parcel.", "Reply as JSON with sentiment, urgency and category.")
    assert json.loads(given) == {"sentiment": "positive", "urgency": "low", "category": "delivery"}


def test_a_customers_urgent_is_no_instruction() -> None:
    """Words of the e-mail itself do not ask for a label."""
    assert reply("This is urgent!") == "You said: This is urgent!"


def test_the_model_agrees_with_a_person_about_the_example_emails() -> None:
    """Keywords find what a person would say in at least nine of ten cases."""
    said = [(sentiment(text), urgency(text), category(text)) for text in example_emails()]
    meant = [(MEANING[code[0]], MEANING[code[1]], CATEGORIES[code[2]]) for code in JUDGEMENTS.split()]
    assert len(said) == len(meant)
    agreed = sum(
        a == b for one, other in zip(said, meant, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert agreed >= 0.9 * 3 * len(meant)


@pytest.mark.parametrize(("label", "values"), [(sentiment, 3), (urgency, 3), (category, 5)])
def test_the_example_emails_have_every_label(label: Callable[[str], str], values: int) -> None:
    """The example is mixed: each value of a label occurs several times."""
    counts = Counter(map(label, example_emails()))
    assert len(counts) == values
    assert min(counts.values()) >= 4


def test_the_example_emails_are_a_batch_with_one_shared_system_prompt() -> None:
    """Every line is a batch request of its own id, and all share one variable that wants a gradient."""
    lines = [json.loads(line) for line in EMAILS.read_text(encoding="utf-8").splitlines()]
    assert [line["custom_id"] for line in lines] == [f"email-{n:03}" for n in range(1, 37)]
    prompts = {json.dumps(line["body"]["messages"][0]) for line in lines}
    assert len(prompts) == 1
    assert '"requires_grad": true' in prompts.pop()


# ---- backward prompts


def test_feedback_becomes_a_criticism_of_the_text() -> None:
    """The criticism names what the feedback asks for, and nothing else is said."""
    expected = f"The text does not make sure of this: Use only capital letters. {REMEDY}"
    assert criticism("Use only capital letters") == expected


def test_equal_feedback_is_said_once() -> None:
    """Distinct feedback is joined in order."""
    assert "this: Be brief. Be kind! State" in criticism("Be brief.", "Be kind!", "Be brief.")


def test_praise_is_left_out_beside_a_complaint() -> None:
    """Praise asks for no change."""
    assert "Perfect" not in criticism("Perfect.", "Use only capital letters.")


@pytest.mark.parametrize(
    "praise",
    [
        "Perfect.",
        "The response is correct.",
        "Well done, no complaint.",
        "It is good as it is.",
        "Correct. Nothing to change!",
        "Very good.",
        "NO FEEDBACK",
        "",
    ],
)
def test_praise_alone_is_answered_with_no_feedback(praise: str) -> None:
    """Where all feedback is praise there is exactly one thing to say."""
    assert criticism(praise, "Perfect!") == "NO FEEDBACK"


@pytest.mark.parametrize(
    "complaint",
    [
        "The answer is not correct.",
        "Perfect, but too long.",
        "The response must be perfect English.",
        "The correct answer is Rome.",
        "Correct the spelling.",
        "A good reply names the order.",
    ],
)
def test_a_complaint_with_a_word_of_praise_in_it_stays_one(complaint: str) -> None:
    """Praising words do not hide what is asked for."""
    assert criticism(complaint) == f"The text does not make sure of this: {complaint} {REMEDY}"


def test_a_criticism_of_a_criticism_is_not_wrapped_again() -> None:
    """Through a chain of operations the text stays the same."""
    once = criticism("Use only capital letters.")
    assert criticism(once) == once


def test_a_criticism_is_capped() -> None:
    """A criticism stays readable, however much feedback there is."""
    assert len(criticism(*(f"Rule {n} is not kept." for n in range(1000)))) < 800


def test_an_empty_text_is_told_so() -> None:
    """The text criticised is the last variable shown."""
    assert criticism("Be kind.", variable="").startswith(
        "The text is empty and so does not make sure of this:"
    )


def test_a_fence_inside_another_is_only_text() -> None:
    """Feedback that quotes a fence of another boundary is not read as more feedback."""
    quoted = '<fence-ffff kind="feedback">\nPerfect.\n</fence-ffff>'
    assert quoted.replace("\n", " ") in criticism(f"The reply has {quoted} in it, it should not.")


# ---- malformed requests


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({"model": "any"}, "messages"),
        ({"model": "any", "messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "model"),
        ({"model": "any", "messages": [{"role": "user", "content": [{"data": "Hi"}]}]}, "messages.0.content"),
        ({"model": "any", "messages": [{"role": "nobody", "content": "Hi"}]}, "messages.0.role"),
        ({"model": "any", "messages": [{"role": "user", "content": "Hi"}], "n": 0}, "n"),
        ({"model": "any", "messages": [{"role": "user"}], "tool_choice": "required"}, "tool_choice"),
    ],
)
def test_a_malformed_request_is_refused_by_field(body: object, field: str) -> None:
    """The refusal begins with the field that is wrong, as far as a real server would refuse it."""
    with pytest.raises(ValueError, match=f"^{field}"):
        read_request(body)
