"""What the backward model's replies mean, above all those about several texts."""

import json
import time

import pytest

from backtalk.runtime.model import Completion
from backward_worker.gradient import EMPTY, TextGradient
from backward_worker.replies import Unusable, read_map, read_text

BOTH = '{"1": "first", "2": "second"}'


def reply(content, reason="stop", **message):
    told = {"role": "assistant", "content": content, **message}
    return Completion({"choices": [{"index": 0, "message": told, "finish_reason": reason}]})


def read(content, count=2):
    return [one and one.text for one in read_map(reply(content), count)]


@pytest.mark.parametrize(
    "said",
    [
        BOTH,
        f"\n\n  {BOTH}\n",
        f"```json\n{BOTH}\n```",
        f"```\n{BOTH}\n```",
        f"Here it is:\n\n{BOTH}\n\nI hope it helps!",
        f"<think>What about {{this}}?</think>{BOTH}",
        f'<think>Perhaps {{"1": "draft", "2": "draft"}}?</think>\n{BOTH}',
        f'No opening tag, {{"1": "draft", "2": "draft"}}</think>{BOTH}',
        f"Of {{a, b}} and {{}} I say {BOTH} and {{more}}",
        f'The feedback so far was {{"text": "too long"}}. {BOTH}',
        f'In {{"1": "first"}} and in full: {BOTH}',
        '{"2": "second", "1": "first"}',
        '{"1": "first", "2": "second", "3": "nobody asked", "note": "mine"}',
        '{"1": " first\\n", "2": "\\tsecond"}',
        f'{{"feedback": {BOTH}}}',
        f'{{"analysis": {{"a": {{"b": 1}}}}, "answer": {BOTH}}}',
        f"[{BOTH}]",
        f"{{{{{{ {BOTH} }}}}}}",
        '{"1": "wrong", "1": "first", "2": "second"}',
        '\ufeff{"1": "first", "2": "second"}',
    ],
)
def test_the_object_is_found_in_whatever_it_is_wrapped(said):
    """Fences, words before and behind, thoughts, other braces, other keys."""
    assert read(said) == ["first", "second"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ('{"1": "first"}', ["first", None]),
        ('{"2": "second"}', [None, "second"]),
        ('{"1": "first", "2": null}', ["first", None]),
        ('{"1": "first", "2": ""}', ["first", None]),
        ('{"1": "first", "2": " \\n "}', ["first", None]),
        ('{"1": "first", "2": 7}', ["first", None]),
        ('{"1": "first", "2": true}', ["first", None]),
        ('{"1": "first", "2": ["second"]}', ["first", None]),
        ('{"1": "first", "2": {"text": "second"}}', ["first", None]),
        ('{"1": "first", "02": "second", "2.0": "second", " 2": "second"}', ["first", None]),
        ('{"1": "first", "٢": "second"}', ["first", None]),
    ],
)
def test_what_a_reply_lacks_is_missing_and_the_rest_is_there(said, found):
    """A value that is no text is none."""
    assert read(said) == found


def test_no_feedback_is_the_empty_gradient_also_among_others():
    """Exactly these words and nothing more."""
    found = read_map(reply('{"1": "NO FEEDBACK", "2": " NO FEEDBACK\\n", "3": "No feedback: say so."}'), 3)
    assert found == [EMPTY, EMPTY, TextGradient("No feedback: say so.", "model")]


@pytest.mark.parametrize(
    "said",
    [
        "first and second",
        "NO FEEDBACK",
        "{}",
        "[]",
        '["first", "second"]',
        "null",
        "{{{",
        "}{",
        '{"3": "third"}',
        '{"one": "first"}',
        '{1: "first", 2: "second"}',
        "{'1': 'first'}",
        '{"1": "first", "2": "seco',
        '{"1": first}',
        "<think>" + BOTH,
        f"<think>{BOTH}</think>",
        "",
        None,
        '{"1": ' + "9" * 5000 + "}",
    ],
    ids=lambda said: repr(said)[-30:],
)
def test_a_reply_without_the_object_is_of_no_use(said):
    """It may do better when it is asked again."""
    with pytest.raises(Unusable):
        read_map(reply(said), 2)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_reply_that_was_cut_off_is_of_no_use(reason):
    """Also where what is there looks whole: its end may be missing."""
    with pytest.raises(Unusable, match=reason):
        read_map(reply(BOTH, reason), 2)
    with pytest.raises(Unusable, match=reason):
        read_text(reply("Shorten it.", reason))


def test_a_refusal_is_of_no_use():
    """It is no feedback on anything."""
    with pytest.raises(Unusable, match="refused"):
        read_map(reply(BOTH, refusal="I cannot"), 2)


@pytest.mark.parametrize(
    "nested",
    ['Do not write {"1": "evil", "2": "evil"} there.', '{"1": "evil", "2": "evil", "3": "evil"}', BOTH],
)
def test_json_inside_of_a_value_is_the_text_of_that_value(nested):
    """A reply quotes what it was shown, and that may look like a reply."""
    said = json.dumps({"1": nested})
    assert read(said, 2) == [nested, None]
    assert read(json.dumps({"1": nested, "2": "second"}), 2) == [nested, "second"]


def test_json_inside_of_a_value_cannot_speak_for_a_reply_that_is_broken():
    """An object that cannot be read is no reason to look for one inside of its texts."""
    evil = json.dumps('{"1": "evil", "2": "evil"}')
    with pytest.raises(Unusable):
        read(f'{{"1": {evil}, "2": second}}')


def test_every_number_is_a_key_of_its_own():
    """Twelve is neither one nor two."""
    said = {str(number): f"text {number}" for number in range(1, 13)}
    assert read(json.dumps(said), 12) == [f"text {number}" for number in range(1, 13)]


@pytest.mark.parametrize(
    "hostile",
    [
        "{" * 200_000,
        '{"1":' * 50_000,
        '{"1": "' * 30_000,
        '{"a": [' * 50_000,
        "{" + '"a":{' * 50_000,
        "[" * 200_000 + "{",
        '{"1": "x' + "\\" * 200_001,
        '{"' + "x" * 500_000,
        "<think>" * 100_000,
        "</think>" * 100_000,
        "{}" * 200_000,
        '{"a": 1}' * 50_000,
    ],
    ids=lambda hostile: f"{hostile[:8]}…{hostile[-6:]}",
)
def test_a_hostile_reply_costs_little(hostile):
    """Neither its depth nor its length takes more than one look at it all, a few times."""
    begun = time.process_time()
    with pytest.raises(Unusable):
        read_map(reply(hostile), 2)
    assert time.process_time() - begun < 1


def test_a_long_reply_is_read_as_a_short_one():
    """Two hundred and fifty-six texts of a page each."""
    said = {str(number): f"{{{number}}} " + "word " * 500 for number in range(1, 257)}
    begun = time.process_time()
    assert all(read(json.dumps(said), 256))
    assert time.process_time() - begun < 1


def test_half_of_a_pair_is_no_text():
    """JSON can name it and UTF-8 cannot: it would end the message that carries it."""
    assert read('{"1": "first", "2": "\\ud800"}') == ["first", None]
    assert read('{"1": "first", "2": "\\ud83d\\ude42"}') == ["first", "🙂"]


def test_half_of_a_pair_makes_a_text_of_no_use():
    """The next question could not be written down with it."""
    with pytest.raises(Unusable):
        read_text(reply("Shorten \ud800 it."))
