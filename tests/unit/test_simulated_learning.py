"""How the simulated model closes the learning loop: criticism from exact matches, and prompts written anew."""

import json
from dataclasses import replace

import pytest

from backtalk.local.simulated_completion import read_request
from backtalk.local.simulated_instructions import Style, Task, read_style, read_task
from backtalk.local.simulated_replies import replies_to
from backtalk.local.simulated_vocabulary import LABELS, VALUES
from backtalk.local.simulated_wording import worded

BOUNDARY = "1a2b3c4d5e6f"
PROMPT = "You are a helpful assistant."
CATEGORY = "Give the category."
QUOTED = '<fence-ffffffffffff kind="feedback">\nReply as JSON.\n</fence-ffffffffffff>'
LOWER = "Use only lower case."


def reply(user: str, system: str = PROMPT) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    (only,) = replies_to(read_request({"model": "any", "messages": messages}))
    assert only.text is not None
    return only.text


def fence(kind: str, text: str) -> str:
    return f'<fence-{BOUNDARY} kind="{kind}">\n{text}\n</fence-{BOUNDARY}>\n'


def criticism(*feedback: str) -> str:
    shown = "".join(fence("feedback", text) for text in feedback)
    return reply(
        f"{shown}Criticise this:\n{fence('variable', PROMPT)}", "Reply with NO FEEDBACK if it is good."
    )


def mismatch(response: str, target: str) -> str:
    told = (json.dumps(text, ensure_ascii=False) for text in (response, target))
    return "It is {}; it should be exactly {}.".format(*told)


def concluded(response: str, target: str) -> str:
    """Return what a criticism of a mismatch says between its first and its last words."""
    return criticism(mismatch(response, target)).partition("this: ")[2].partition(" State it")[0]


def revised(text: str, *feedback: str, more: str = "") -> str:
    """Return the new text from an optimizer's prompt."""
    shown = "".join(fence("feedback", one) for one in feedback)
    rules = f"Write the whole new text between <new-{BOUNDARY}> and </new-{BOUNDARY}>."
    said = reply(f"{more}{fence('variable', text)}{shown}", rules)
    assert said.startswith(f"<new-{BOUNDARY}>\n")
    assert said.endswith(f"\n</new-{BOUNDARY}>")
    return said.removeprefix(f"<new-{BOUNDARY}>\n").removesuffix(f"\n</new-{BOUNDARY}>")


# ---- what a mismatch leads to


@pytest.mark.parametrize(
    ("response", "target", "expected"),
    [
        ("thank you for writing.", "billing", "Answer in one word."),
        ("Thank you for writing.", "billing", "Answer in one word, in lower case."),
        ("Thank you for writing.", "BILLING", "Answer in one word, in capital letters."),
        ("Billing", "billing", LOWER),
        ("Billing", "BILLING", "Use only capital letters."),
        ("Yes, we do", "yes, we do", LOWER),
        ("hello", "other", CATEGORY),
        ("HELLO", "OTHER", CATEGORY),
        ("hello", "negative", "Give the sentiment."),
        ("hello", "high", "Give the urgency."),
    ],
)
def test_a_mismatch_becomes_a_rule_for_other_inputs(response: str, target: str, expected: str) -> None:
    """Number of words, letter case and kind of label are found by comparing the two."""
    assert concluded(response, target) == expected


@pytest.mark.parametrize(
    ("response", "target"), [("Rome", "Paris"), ("a b", "c d"), ("", "billing"), ('say "no"', 'say "yes"')]
)
def test_a_mismatch_without_a_reason_stays_as_it_was_said(response: str, target: str) -> None:
    """Where the two do not tell why, the criticism is the usual one."""
    assert concluded(response, target) == mismatch(response, target)


def test_a_mismatch_is_found_in_longer_feedback() -> None:
    """What stands around it stays, but for the word about what it was said of."""
    said = f'Said of "answer", of which this text is a part: {mismatch("Thank you.", "other")} Be kind.'
    assert "this: Answer in one word, in lower case. Be kind. State" in criticism(said)


def test_equal_conclusions_are_said_once() -> None:
    """A batch of mismatches has one criticism."""
    said = criticism(mismatch("Dear Sir", "billing"), mismatch("Good day", "other"))
    assert said.count("Answer in one word") == 1


def test_a_mismatch_in_broken_json_is_only_text() -> None:
    """Nobody stumbles over feedback that merely looks like a mismatch."""
    said = r'It is "\q"; it should be exactly "x".'
    assert said in criticism(said)


@pytest.mark.parametrize("label", LABELS)
def test_every_value_of_a_label_is_known(label: str) -> None:
    """A label of the vocabulary is one of its values, and no value belongs to two labels."""
    assert LABELS[label]("My parcel was stolen!") in VALUES[label]
    assert sum(len(values) for values in VALUES.values()) == len(set().union(*VALUES.values()))


# ---- rules in words


@pytest.mark.parametrize(
    ("style", "task"),
    [
        (Style(one_word=True, case="lower"), Task(labels=("sentiment", "category"))),
        (Style(one_word=True), Task(labels=("urgency",))),
        (Style(case="upper", json=True, max_words=7), Task(language="Italian", translation=True)),
        (Style(apologise=True, signature="The Lamp Team"), Task(language="French")),
        (Style(), Task()),
    ],
)
def test_rules_in_words_are_understood(style: Style, task: Task) -> None:
    """What is written into a prompt is followed when it is read there."""
    text = " ".join([PROMPT, *worded(style, task)])
    limit = 1 if style.one_word else style.max_words
    assert (read_style(text), read_task(text)) == (replace(style, max_words=limit), task)


# ---- texts written anew


def test_a_new_text_is_the_old_one_and_the_rules_that_were_asked_for() -> None:
    """Criticism by the simulated model itself leads to the rule it names."""
    said = criticism(mismatch("Thank you for writing.", "billing"))
    assert revised(PROMPT, said) == f"{PROMPT} Answer in one word, in lower case."


def test_a_person_is_understood_as_well() -> None:
    """Two pieces of feedback make a text that has the model do both."""
    new = revised(PROMPT, "Use only capital letters.", "Translate into Italian")
    assert new == f"{PROMPT} Use only capital letters. Translate the message into Italian."
    assert reply("Hello", new) == "CIAO"


@pytest.mark.parametrize(
    ("feedback", "rule"),
    [
        ("The reply is too long, it should have no more than 5 words!", "Use at most 5 words."),
        ("It should have been in French.", "Answer in French."),
        ("Perfect, but write in capital letters.", "Use only capital letters."),
        ('Said of "answer": Reply as JSON.', "Reply as JSON."),
        ("A little more polite, please.", "Be polite and apologise."),
        ('Sign as "The Lamp Team".', 'Sign as "The Lamp Team".'),
        ("Mention the order number", "Mention the order number."),
        ("The tone is cold.", "Heed this feedback: The tone is cold."),
    ],
)
def test_each_rule_is_an_order(feedback: str, rule: str) -> None:
    """Feedback becomes a sentence that tells the model what to do."""
    assert revised(PROMPT, feedback) == f"{PROMPT} {rule}"


@pytest.mark.parametrize("feedback", ["Perfect!", "", "Nothing to change.", mismatch("Rome", "Paris")])
def test_feedback_that_asks_for_nothing_changes_nothing(feedback: str) -> None:
    """Praise, silence and a mismatch that teaches nothing leave the text as it is."""
    assert revised(PROMPT, feedback) == PROMPT


def test_rules_that_stand_there_are_left_out() -> None:
    """Each rule is written once, however it was put and however often it is asked for."""
    once = revised(
        PROMPT, "Answer in one word, in lower case.", "In small letters please", "Mention the order."
    )
    assert once == f"{PROMPT} Answer in one word, in lower case. Mention the order."
    assert revised(once, "Use lower case.", "One-word answers only!", "Mention the order.") == once


def test_only_what_is_new_in_a_rule_is_added() -> None:
    """Of a rule that asks for two things the missing one is written."""
    assert revised("Use lower case.", "One word, in lower case.") == "Use lower case. Answer in one word."


def test_a_rule_that_was_overruled_is_written_again() -> None:
    """The last word on letter case counts, so an old rule comes back behind a newer one."""
    text = "Use only capital letters. Use only lower case."
    assert revised(text, "Capital letters!") == f"{text} Use only capital letters."
    both = "Answer in Italian. Answer in French."
    assert revised(both, "Answer in French.") == both


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", LOWER),
        ("Or say NO FEEDBACK.", f"Or say NO FEEDBACK. {LOWER}"),
        ("  Dear {name},\n\n{{x}} {", f"  Dear {{name}},\n\n{{{{x}}}} {{\n{LOWER}"),
        ("Be brief.\n", f"Be brief.\n{LOWER}"),
        (QUOTED, f"{QUOTED}\n{LOWER}"),
    ],
)
def test_the_old_text_stays_to_the_letter(text: str, expected: str) -> None:
    """Placeholders, blanks and braces survive."""
    assert revised(text, LOWER) == expected


def test_other_material_is_no_feedback() -> None:
    """Constraints, examples and earlier versions ask for nothing."""
    kinds = ("constraint", "example", "before", "earlier")
    more = "".join(fence(kind, "Use only capital letters.") for kind in kinds)
    assert revised(PROMPT, "Reply as JSON.", more=more) == f"{PROMPT} Reply as JSON."


def test_criticism_of_an_optimizer_is_criticism() -> None:
    """A backward prompt that shows an optimizer's prompt within its own fences is answered as one."""
    shown = f"<fence-{BOUNDARY}> Write between <new-{BOUNDARY}> and </new-{BOUNDARY}>."
    outer = f'<fence-000011112222 kind="message">\n{shown}\n</fence-000011112222>'
    said = reply(outer.replace("message", "feedback") + outer, "Reply with NO FEEDBACK if it is good.")
    assert said.startswith("The text does not make sure of this:")


def test_the_loop_closes() -> None:
    """Response, mismatch, criticism, new prompt: after two rounds the model says what it should."""
    mail, prompt = "Dear company, your advertisement is awful.", "Help the customer."
    for _ in range(2):
        prompt = revised(prompt, criticism(mismatch(reply(mail, prompt), "other")))
    assert prompt == f"Help the customer. Answer in one word, in lower case. {CATEGORY}"
    assert reply(mail, prompt) == "other"
