"""How the simulated model judges, when it is asked for a score and an explanation as JSON: by the mood of the words."""

import json
import re

from backtalk.local.simulated_vocabulary import sentiment

_ASKED = (re.compile(r"\bscore\b", re.IGNORECASE), re.compile(r"\bexplanation\b", re.IGNORECASE))
_JSON = re.compile(r"\bjson\b", re.IGNORECASE)


def is_judge_prompt(text: str) -> bool:
    """A judge is asked for JSON with both."""
    return _JSON.search(text) is not None and all(word.search(text) for word in _ASKED)


def judge(question: str) -> str:
    """One for what sounds pleased or says nothing of the kind, zero for what sounds displeased."""
    mood = sentiment(question)
    told = f"It sounds {mood}{'; it should not sound displeased' if mood == 'negative' else ''} (simulated)."
    return json.dumps({"score": int(mood != "negative"), "explanation": told})
