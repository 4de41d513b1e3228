"""Instructions in words, such that `read_style` and `read_task` find them there again."""

from collections.abc import Iterator

from backtalk.local.simulated_instructions import Style, Task

_CASES = {"lower": "lower case", "upper": "capital letters"}


def worded(style: Style, task: Task) -> list[str]:
    """One imperative sentence for each thing that is asked for."""
    return [*_task(task), *_look(style)]


def _task(task: Task) -> Iterator[str]:
    if task.labels:
        yield f"Give {' and '.join(f'the {label}' for label in task.labels)}."
    if task.language:
        yield f"{'Translate the message into' if task.translation else 'Answer in'} {task.language}."


def _look(style: Style) -> Iterator[str]:
    case = _CASES.get(style.case)
    if style.one_word:
        yield f"Answer in one word, in {case}." if case else "Answer in one word."
    elif case:
        yield f"Use only {case}."
    if style.json:
        yield "Reply as JSON."
    if style.max_words is not None:
        yield f"Use at most {style.max_words} words."
    if style.apologise:
        yield "Be polite and apologise."
    if style.signature:
        yield f'Sign as "{style.signature}".'
