"""How the simulated model answers a backward prompt: the feedback shown becomes a criticism of the text."""

import json
import re
from collections.abc import Sequence

from backtalk.local.simulated_fences import closing, fenced, headings, line
from backtalk.local.simulated_mismatch import concluded

NO_FEEDBACK = "NO FEEDBACK"
_MERGING = "you make one feedback of theirs"
_AS_JSON = "Reply with one JSON object and nothing else."
_LONGEST = 600
# a text that is asked about among others; its sample is named where several are shown
_SUBJECT = re.compile(r'^Text \d+: "[^\n]*?(?:, of sample (?P<sample>\d+))?:$', re.MULTILINE)
_SAMPLE = re.compile(r"^## Sample (\d+)$", re.MULTILINE)

_PREFIX = "The text does not make sure of this:"
_EMPTY_PREFIX = "The text is empty and so does not make sure of this:"
_REMEDY = (
    "State it as an explicit rule that holds for every input, "
    "so that the response follows it without being told each time."
)
_PRAISE = re.compile(
    r"no feedback|no (?:complaints?|problems?|issues?|criticism|changes?(?: (?:is|are))?(?: needed)?)|"
    r"nothing (?:is )?(?:wrong|missing|to \w+)|good as (?:it|they) (?:is|are)|well done|\bperfect(?:ly)?\b|"
    r"\bcorrect(?:ly)?\b(?! (?:the|this|that|its?|your|\w+ (?:is|was|would))\b)|\bexcellent\b|flawless|"
    r"exactly right|as expected|satisf(?:ied|ying|actory)|works well|keep it(?: up)?|love it|"
    r"(?:^|\b(?:is|are|was|looks|all|very) )(?:good|great|fine)(?=[.!,;]|$| job| work)",
    re.IGNORECASE,
)
_COMPLAINT = re.compile(
    r"\b(?:but|however|although|though|except|not|no|never|nor|should|must|need\w*|lack\w*|miss\w*|wrong\w*|"
    r"instead|too|only|use|add|remove|make|write|more|less|better|could|would|incorrect\w*|fail\w*|fix\w*|"
    r"expected|please)\b|n't",
    re.IGNORECASE,
)


def is_backward_prompt(text: str) -> bool:
    """A backward prompt says how to answer when there is nothing to criticise, unless it merges what was criticised."""
    return NO_FEEDBACK in text or _MERGING in text


def criticise(prompt: str) -> str:
    """A criticism of the variable that is asked about; of each by its number, where there are several."""
    if _AS_JSON not in closing(prompt):
        return _criticised(prompt)
    shown, *subjects = _parts(prompt, _SUBJECT)
    samples = {match[1]: text for match, text in _parts(shown[1], _SAMPLE)[1:] if match}
    return json.dumps(
        {
            str(number): _criticised(samples.get(match["sample"], shown[1]) + text)
            for number, (match, text) in enumerate(subjects, start=1)
            if match
        }
    )


def _parts(text: str, heading: re.Pattern[str]) -> list[tuple[re.Match[str] | None, str]]:
    """What stands before the first heading, and behind each."""
    found = headings(text, heading)
    ends = [*(match.start() for match in found), len(text)]
    behind = [(match, text[match.end() : end]) for match, end in zip(found, ends[1:], strict=True)]
    return [(None, text[: ends[0]]), *behind]


def _criticised(prompt: str) -> str:
    """A criticism of the last variable shown, or exactly `NO FEEDBACK` when all feedback is praise."""
    blocks = [(kind, line(text)) for kind, text in fenced(prompt)]
    feedback = [concluded(text) for kind, text in blocks if kind == "feedback"]
    complaints = _distinct([without_wrapping(text) for text in feedback if not is_praise(text)])
    if not complaints:
        return NO_FEEDBACK
    variable = [text for kind, text in blocks if kind == "variable"][-1:]
    prefix = _EMPTY_PREFIX if variable == [""] else _PREFIX
    return f"{prefix} {_capped(' '.join(map(sentence, complaints)))} {_REMEDY}"


def is_praise(text: str) -> bool:
    """Feedback that only praises asks for nothing; neither does feedback that says nothing."""
    rest = _PRAISE.sub(" ", text)
    return not text or (rest != text and not _COMPLAINT.search(rest))


def without_wrapping(text: str) -> str:
    """Without the words of an earlier criticism, or a chain of ten operations would wrap it ten times."""
    for phrase in (_PREFIX, _EMPTY_PREFIX, _REMEDY):
        text = text.replace(phrase, " ")
    return line(text)


def _distinct(texts: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for text in texts:
        if text and not any(text in earlier for earlier in kept):
            kept.append(text)
    return kept


def sentence(text: str) -> str:
    return text if text[-1] in ".!?…" else f"{text}."


def _capped(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"
