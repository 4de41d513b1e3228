"""What the simulated model says: rules of thumb that follow simple instructions and never vary."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from backtalk.local.simulated_completion import Reply, Request
from backtalk.local.simulated_criticism import criticise, is_backward_prompt
from backtalk.local.simulated_instructions import Style, Task, read_style, read_task, read_users_task
from backtalk.local.simulated_judgement import is_judge_prompt, judge
from backtalk.local.simulated_revision import is_revision_prompt, revise
from backtalk.local.simulated_tools import call_tools, read_prompt
from backtalk.local.simulated_vocabulary import LABELS, category, translate


def replies_to(request: Request) -> list[Reply]:
    """One reply for each choice that was asked for."""
    variants = range(1, (request.n or 1) + 1)
    if is_revision_prompt(request.text):
        return [Reply(revise(request.text)) for _ in variants]
    if is_backward_prompt(request.text):
        return [Reply(criticise(request.text)) for _ in variants]
    prompt = read_prompt(request)
    if calls := call_tools(prompt):
        return [calls for _ in variants]
    if is_judge_prompt(f"{prompt.request.instructions}\n{prompt.request.question}"):
        return [Reply(judge(prompt.request.question)) for _ in variants]
    return [Reply(_text(prompt.request, variant)) for variant in variants]


def _text(request: Request, variant: int) -> str:
    style, task = _style(request), _task(request)
    fields = _labels(request, task) or _translation(request, task) or _prose(request, style, task)
    if style.json:
        return _as_json(fields, style, variant)
    # A single value stands alone; several are told apart by their names.
    lines = (
        list(fields.values()) if len(fields) == 1 else [f"{name}: {value}" for name, value in fields.items()]
    )
    return _cased("\n".join(lines) + (f" (variant {variant})" if variant > 1 else ""), style)


def _style(request: Request) -> Style:
    """The style the system or developer asks for; only when they ask for none, the user's."""
    style = read_style(request.instructions)
    style = style if style != Style() else read_style(request.question)
    demanded = request.response_format and request.response_format.type in ("json_object", "json_schema")
    return replace(style, json=True) if demanded else style


def _task(request: Request) -> Task:
    task = read_task(request.instructions)
    return task if task != Task() else read_users_task(request.question)


# ---- what is said


def _labels(request: Request, task: Task) -> dict[str, str]:
    return {label: LABELS[label](request.question) for label in task.labels}


def _translation(request: Request, task: Task) -> dict[str, str]:
    if not task.translation:
        return {}
    return {"translation": translate(task.phrase or _after_colon(request.question), task.language)}


def _after_colon(text: str) -> str:
    """In "Translate this to French: the cat", the cat."""
    asked, colon, rest = text.partition(":")
    return rest.strip() if colon and "translat" in asked.lower() and rest.strip() else text


def _prose(request: Request, style: Style, task: Task) -> dict[str, str]:
    if style.one_word:
        return {"reply": _one_word(request.question)}
    said = " ".join(_sentences(request, style))
    if task.language:
        said = translate(said, task.language)
    return {"reply": _signed(said, style)}


def _sentences(request: Request, style: Style) -> Iterator[str]:
    if style.apologise:
        yield "We apologise for the inconvenience."
    yield _answer(request)
    if seen := sum(message.attachments for message in request.messages):
        yield f"({seen} attachment(s) seen)"


_TOPICS = {
    "billing": "your bill",
    "delivery": "your delivery",
    "technical": "the technical problem",
    "account": "your account",
}


def _answer(request: Request) -> str:
    last = request.messages[-1]
    if last.role in ("tool", "function"):
        return f"The tool answered: {_shortened(last.text)}"
    if topic := _TOPICS.get(category(request.question)):
        return f"Thank you for writing to us about {topic}. We are looking into it and will be in touch soon."
    return f"You said: {_shortened(request.question)}"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79].rstrip()}…"


def _one_word(question: str) -> str:
    topic = category(question)
    words = re.findall(r"[\w'’-]+", question)
    return topic.capitalize() if topic in _TOPICS else next(iter(words), "Nothing")


# ---- how it looks


def _signed(said: str, style: Style) -> str:
    closing = f"Kind regards, {style.signature}" if style.signature else ""
    if style.max_words is not None:
        said = _first_words(said, style.max_words - len(closing.split()))
    return f"{said}\n\n{closing}" if closing else said


def _first_words(text: str, limit: int) -> str:
    words = text.split()
    return text if len(words) <= limit else " ".join(words[: max(0, limit)]).rstrip(",;:")


def _cased(text: str, style: Style) -> str:
    return {"upper": text.upper(), "lower": text.lower()}.get(style.case, text)


def _as_json(fields: dict[str, str], style: Style, variant: int) -> str:
    marked = fields if variant == 1 else {**fields, "variant": str(variant)}
    cased = {_cased(name, style): _cased(value, style) for name, value in marked.items()}
    return json.dumps(cased, ensure_ascii=False)
