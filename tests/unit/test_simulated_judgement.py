"""The simulated model as a judge."""

import json

import pytest

from backtalk.local.simulated_completion import read_request
from backtalk.local.simulated_replies import replies_to

TASK = "Is this polite? Reply as JSON with a score of 0 or 1 and an explanation."


def reply(question, task=TASK):
    messages = [{"role": "system", "content": task}, {"role": "user", "content": question}]
    (one,) = replies_to(read_request({"model": "m", "messages": messages}))
    return one.text


@pytest.mark.parametrize(
    ("question", "score"), [("Thank you for writing!", 1), ("Tuesday.", 1), ("That is ridiculous.", 0)]
)
def test_a_judge_goes_by_the_mood_of_the_words(question, score):
    """Only what sounds displeased scores nothing; the explanation says that nobody really judged."""
    judged = json.loads(reply(question))
    assert judged["score"] == score
    assert "simulated" in judged["explanation"]


@pytest.mark.parametrize("task", ["Give a score as JSON.", "Score it, with an explanation.", "Be brief."])
def test_who_is_not_asked_for_both_as_json_is_no_judge(task):
    """Other prompts are answered as ever."""
    assert "explanation" not in reply("That is ridiculous.", task)
