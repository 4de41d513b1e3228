"""How the simulated model rewrites a text: as it stands, with the rules that the feedback asks for behind it."""

import re
from collections.abc import Iterator
from dataclasses import replace

from backtalk.local.simulated_criticism import is_praise, sentence, without_wrapping
from backtalk.local.simulated_fences import fenced
from backtalk.local.simulated_instructions import Style, Task, read_style, read_task, read_users_task
from backtalk.local.simulated_mismatch import concluded_only
from backtalk.local.simulated_wording import worded

_BOUNDARY = re.compile(r"<fence-([0-9a-f]{12})\b")
_SAID_OF = re.compile(r'\bSaid of "(?:[^"\\]|\\.)*"[^:]*: ')
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+(?=[^a-z])")
_IMPERATIVE = re.compile(
    r"(?:please |always |never |only )?(?:add|answer|ask|avoid|be|begin|call|check|choose|do|don['’]t|end|explain|"
    r"give|include|keep|leave|limit|list|make|mention|name|put|quote|remember|remove|reply|respond|return|say|show|"
    r"start|state|stop|take|tell|treat|use|write)\b",
    re.IGNORECASE,
)


def is_revision_prompt(text: str) -> bool:
    """An optimizer's prompt shows the tag between which the new text is to stand, with the boundary of its fences."""
    boundary = _BOUNDARY.search(text)
    return boundary is not None and f"<new-{boundary[1]}>" in text


def revise(prompt: str) -> str:
    """The new text between its tags; the old one when the feedback asks for nothing that it does not say."""
    boundary = _BOUNDARY.search(prompt)
    assert boundary is not None
    blocks = list(fenced(prompt))
    text = next((_unframed(text) for kind, text in blocks if kind == "variable"), "")
    for asked in (one for kind, feedback in blocks if kind == "feedback" for one in _sentences(feedback)):
        text = _joined(text, *_new_rules(text, asked))
    return f"<new-{boundary[1]}>\n{text}\n</new-{boundary[1]}>"


def _unframed(text: str) -> str:
    """What stands between the lines of a fence, to the last blank."""
    return text.removeprefix("\n").removesuffix("\n")


def _sentences(feedback: str) -> Iterator[str]:
    said = _SAID_OF.sub(" ", concluded_only(without_wrapping(feedback))).strip()
    return (sentence(one) for one in _SENTENCE_END.split(said) if not is_praise(one))


def _joined(text: str, *rules: str) -> str:
    for rule in rules:
        between = "" if not text or text[-1].isspace() else " " if text[-1] in ".!?…" else "\n"
        text = f"{text}{between}{rule}"
    return text


def _new_rules(text: str, asked: str) -> list[str]:
    style, task = read_style(asked), read_users_task(asked)
    if (style, task) == (Style(), Task()):
        return [] if asked in text else [_order(asked)]
    rules = worded(_style_beyond(text, style), _task_beyond(text, task))
    return [rule for rule in rules if rule not in text or _changes(text, rule)]


def _order(asked: str) -> str:
    return asked if _IMPERATIVE.match(asked) else f"Heed this feedback: {asked}"


def _style_beyond(text: str, wanted: Style) -> Style:
    known = vars(read_style(text))
    if wanted.one_word:
        wanted = replace(wanted, max_words=None)  # "in one word" is a limit as well
    return Style(**{name: value for name, value in vars(wanted).items() if value != known[name]})


def _task_beyond(text: str, wanted: Task) -> Task:
    known = read_task(text)
    said = known.language == wanted.language and known.translation >= wanted.translation
    labels = tuple(label for label in wanted.labels if label not in known.labels)
    return replace(wanted, labels=labels, language="" if said else wanted.language)


def _changes(text: str, rule: str) -> bool:
    """Whether a rule that stands there is overruled by a later one."""
    more = _joined(text, rule)
    return (read_style(more), read_task(more)) != (read_style(text), read_task(text))
