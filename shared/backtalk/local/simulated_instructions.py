"""Instructions as the simulated model understands them: what a reply is to hold, and how it is to look."""

import re
from dataclasses import dataclass

from backtalk.local.simulated_vocabulary import LANGUAGES


@dataclass(frozen=True)
class Style:
    """How a reply is to look."""

    case: str = ""
    json: bool = False
    one_word: bool = False
    max_words: int | None = None
    apologise: bool = False
    signature: str = ""


@dataclass(frozen=True)
class Task:
    """What a reply is to hold, when it is more than an answer in prose."""

    labels: tuple[str, ...] = ()
    language: str = ""
    translation: bool = False
    phrase: str = ""


_FORBIDDEN = re.compile(
    r"(?:\bnot|n't|n’t|\bnever|\bwithout|\bavoid|\bno)\s+(?:(?!but\b|than\b|only\b)\w+\s+){0,3}$",
    re.IGNORECASE,
)
_UPPER = r"\b(?:capital letters|(?:in|only|all) capitals|capitals only|all[- ]caps|upper[- ]?case)\b"
_LOWER = r"\blower[- ]?case|\bsmall letters"
_JSON = r"\bjson (?:object|format)|\b(?:as|in|into|with|return|output|only|valid|an?)\s+(?:\w+\s+)?json\b"
_ONE_WORD = r"\b(?:one|single)[- ]word\b"
_POLITE = r"\b(?:be|stay|remain|very|more) polite|\bpolitely|\bapologi[sz]|\bapology"
_NUMBERS = {
    word: n
    for n, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 1
    )
}
_NUMBERS |= {"twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50, "hundred": 100}
_MAX_WORDS = re.compile(
    r"\b(?:(?:no|not) more than|at most|up to|maximum of|in|within|(?P<below>under|fewer than|less than))"
    rf"\s+(?:a\s+)?(?P<number>\d{{1,4}}|{'|'.join(_NUMBERS)})\s+words?\b",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"(?i:\bsign(?:ed)?(?: off)?(?: (?:the|your|every|each|all) (?:e-)?\w+)?(?: off)? (?:as|with))\s+"
    r"""(?:["'“‘](?P<quoted>[^"“”‘’\n]+?)["'”’](?!\w)"""
    r"|(?P<name>(?:[Tt]he )?[A-Z][\w-]*(?: (?:(?:of|from|at|the|and) )*[A-Z][\w-]*)*)"
    r"|(?P<plain>[^\s.,;]+(?: [^\s.,;]+){0,4}))"
)

_LABELS = {"sentiment": r"\bsentiment", "urgency": r"\burgen|\bpriorit", "category": r"\bcategor"}
# A customer's own "this is urgent" is no instruction.
_LABELS_OF_USERS = {**_LABELS, "urgency": r"\burgency\b|\bhow urgent|\bpriority of"}

_LANGUAGE = re.compile(
    rf"\b(?i:in|into|to)\s+(?P<known>(?i:{LANGUAGES}))\b"
    r"|(?i:\btranslat\w*)\b[^\n]{0,200}?\b(?:in)?to\s+(?P<other>[A-Z]\w+)"
)
_TRANSLATION = re.compile(r"\btranslat|\bhow (?:do|would) (?:you|i|we|they) say\b", re.IGNORECASE)
_QUOTED = re.compile(r"""(?:^|\s)['"“‘«]([^\n]{1,300}?)['"”’»]\s+(?:in|into|to)\s""")
_UNQUOTED = re.compile(
    r"\btranslate\s+(?!(?:the|this|that|it|these|following)\b)([^\n]{1,300}?)\s+(?:in)?to\s", re.IGNORECASE
)


def read_style(text: str) -> Style:
    upper, lower = _last_asked(_UPPER, text), _last_asked(_LOWER, text)
    return Style(
        case="" if upper == lower else "upper" if upper > lower else "lower",
        json=_last_asked(_JSON, text) >= 0,
        one_word=_last_asked(_ONE_WORD, text) >= 0,
        max_words=_read_max_words(text),
        apologise=_last_asked(_POLITE, text) >= 0,
        signature=_read_signature(text),
    )


def read_task(text: str) -> Task:
    """The task a system or developer message sets."""
    return _read_task(text, _LABELS, _QUOTED.search(text))


def read_users_task(text: str) -> Task:
    """The task a user sets, who says what to translate in the same breath."""
    return _read_task(text, _LABELS_OF_USERS, _QUOTED.search(text) or _UNQUOTED.search(text))


def _read_task(text: str, labels: dict[str, str], phrase: re.Match[str] | None) -> Task:
    language = _LANGUAGE.search(text)
    translation = language is not None and _TRANSLATION.search(text) is not None
    return Task(
        labels=tuple(label for label, pattern in labels.items() if _last_asked(pattern, text) >= 0),
        language=(language["known"] or language["other"]).capitalize() if language else "",
        translation=translation,
        phrase=phrase[1] if phrase and translation else "",
    )


def _last_asked(pattern: str, text: str) -> int:
    """Where the pattern is last asked for and not forbidden, as in "no lower case"; -1 for nowhere."""
    found = (match.start() for match in re.finditer(pattern, text, re.IGNORECASE))
    return max((at for at in found if not _FORBIDDEN.search(text[max(0, at - 60) : at])), default=-1)


def _read_max_words(text: str) -> int | None:
    limits = (_number(match["number"]) - bool(match["below"]) for match in _MAX_WORDS.finditer(text))
    return min(limits, default=None)


def _number(text: str) -> int:
    return _NUMBERS.get(text.lower()) or int(text)


def _read_signature(text: str) -> str:
    found = _SIGNATURE.search(text)
    return (found["quoted"] or found["name"] or found["plain"]).strip() if found else ""
