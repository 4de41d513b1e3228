"""Tools as the simulated model understands them: given by the request, or told in words to a model that has none."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError

from backtalk.local.simulated_completion import Function, Message, Part, Reply, Request, Tool, ToolCall

_CALL_TOKEN = "!function_call:"  # noqa: S105  it opens a call


@dataclass(frozen=True)
class Prompt:
    """A request as one with tools would be; with a `call_token` its calls are made in the text."""

    request: Request
    call_token: str | None = None
    several: bool = False


def read_prompt(request: Request) -> Prompt:
    """Take the words about tools out of the messages, and read what they say."""
    if request.functions:
        return Prompt(request)
    messages = list(request.messages)
    told = next(_told_in(messages), None)
    if told is None:
        return Prompt(_like(request, [_heard(message) for message in messages]))
    messages[told.message] = _saying(messages[told.message], told.rest)
    tools = [Tool(function=function) for function in told.functions]
    demanded = told.demanded or _is_retry(messages[-1])
    # whoever is told that a call was wrong thinks of the question that led to it
    heard = [_heard(message) for at, message in enumerate(messages) if at == 0 or not _is_retry(message)]
    plain = _like(request, heard, tools=tools, tool_choice="required" if demanded else None)
    return Prompt(plain, told.call_token, several=told.several)


def _like(request: Request, messages: Sequence[Message], **tools: Any) -> Request:
    told = {"model": request.model, "messages": messages, "response_format": request.response_format}
    return Request.model_validate({**told, **tools})


def call_tools(prompt: Prompt) -> Reply | None:
    """Calls when they are demanded, or when the question has a word of a tool's name; never twice in a row."""
    question = prompt.request.question
    calls = [ToolCall(function.name, _arguments(function, question)) for function in _chosen(prompt.request)]
    if not calls:
        return None
    if prompt.call_token is None:
        return Reply(tool_calls=(calls[0],), finish_reason="tool_calls")
    lines = [_line(prompt.call_token, call) for call in calls]
    return Reply("\n".join(lines if prompt.several else lines[:1]))


def _line(call_token: str, call: ToolCall) -> str:
    name = json.dumps(call.name, ensure_ascii=False)
    return f'{call_token}{{"name": {name}, "arguments": {call.arguments}}}'


# ---- words about tools

_LIST = re.compile(r'\[\s*\{\s*"name"')
_LISTS_TRIED = 20  # each may cost a pass over the whole text
_DESCRIBED = {"name", "description", "parameters"}
_DEMAND = re.compile(
    r"Answer by calling (?:this function|functions), and in no other way"
    r"|like this, with real arguments, and nothing else:"
    r"|^Write nothing else\. You will be given the results",
    re.MULTILINE,
)
_ONE_CALL = "make one call only"
_TOKENS = (
    re.compile(re.escape(_CALL_TOKEN)),
    # what stands before an example
    re.compile(r'^[^\n{]*[^\s{](?=[ \t]*\{"name":)', re.MULTILINE),
    # a word with a mark in front of it
    re.compile(
        r"""(?<![^\s"'`(])(?!</)[^\w\s"'`({.,][^\s"'`){.,]*(?:call|func)[^\s"'`){.,]*""", re.IGNORECASE
    ),
)
_RESULT = re.compile(r'^Result of (?:"(?:[^"\\\n]|\\.)*"|the function)(?:, call [^\n]*)?:\n', re.MULTILINE)
_RETRY = "Your last message could not be used:\n"


@dataclass(frozen=True)
class _Told:
    """What a message says of tools; `rest` is what it says of other things."""

    message: int
    functions: Sequence[Function]
    call_token: str
    demanded: bool
    several: bool
    rest: str


def _told_in(messages: Sequence[Message]) -> Iterator[_Told]:
    for at, message in enumerate(messages):
        for begun in islice(_LIST.finditer(message.text), _LISTS_TRIED):
            if found := _functions(message.text, begun.start()):
                functions, end = found
                yield _told(at, functions, message.text[: begun.start()], message.text[end:])


def _functions(text: str, at: int) -> tuple[list[Function], int] | None:
    """The functions in the JSON array that begins here, and where it ends."""
    try:
        listed, end = json.JSONDecoder().raw_decode(text, at)
        if not all(isinstance(one, dict) and one.keys() >= _DESCRIBED for one in listed):
            return None
        return _FUNCTIONS.validate_python(listed), end
    except (ValidationError, ValueError, RecursionError):
        return None


_FUNCTIONS = TypeAdapter(list[Function])


def _told(message: int, functions: Sequence[Function], before: str, after: str) -> _Told:
    words = f"{after}\n{before}"
    call_token = next((found[0].strip() for token in _TOKENS if (found := token.search(words))), _CALL_TOKEN)
    return _Told(
        message=message,
        functions=functions,
        call_token=call_token,
        demanded=_DEMAND.search(words) is not None,
        several=_ONE_CALL not in words,
        rest=_rest(before, after, call_token) or words.strip(),
    )


def _rest(before: str, after: str, call_token: str) -> str:
    """What stands around the paragraph of the list, without the next one where only that tells how to call."""
    earlier, _, _ = before.rpartition("\n\n")
    beside, _, later = after.partition("\n\n")
    following, _, further = later.partition("\n\n")
    apart = not beside.strip() and call_token in following
    return "\n\n".join(filter(None, (earlier, further if apart else later)))


def _heard(message: Message) -> Message:
    """A message as it stands, but results of calls as a message of a tool: the last one, as of several such messages."""
    if message.role != "user" or not _RESULT.match(message.text):
        return message
    return _saying(message, _RESULT.split(message.text)[-1], role="tool")


def _is_retry(message: Message) -> bool:
    return message.role == "user" and message.text.startswith(_RETRY)


def _saying(message: Message, text: str, role: str | None = None) -> Message:
    parts = message.content if isinstance(message.content, list) else []
    others = [part for part in parts if part.type != "text"]
    content = [Part(type="text", text=text), *others] if others else text
    return Message.model_validate({"role": role or message.role, "content": content})


# ---- what is called

_NOT_TELLING = {
    "get",
    "set",
    "the",
    "for",
    "and",
    "a",
    "an",
    "to",
    "of",
    "by",
    "in",
    "on",
    "is",
    "do",
    "run",
    "call",
}


def _chosen(request: Request) -> Sequence[Function]:
    if request.tool_choice == "none" or request.messages[-1].role in ("tool", "function"):
        return ()
    forced = [function for function in request.functions if function.name == request.forced_function]
    chosen = forced or _mentioned(request)
    return chosen if chosen or request.tool_choice != "required" else request.functions[:1]


def _mentioned(request: Request) -> Sequence[Function]:
    said = set(re.findall(r"\w+", request.question.lower()))
    return [function for function in request.functions if said & _words_of(function.name)]


def _words_of(name: str) -> set[str]:
    """The telling words of `get_weather`, `getWeather` or `get-weather`: `weather`."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)} - _NOT_TELLING


def _arguments(function: Function, question: str) -> str:
    schema = function.parameters or {}
    properties, required = schema.get("properties"), schema.get("required")
    described = properties if isinstance(properties, dict) else {}
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    values = {name: _value(described.get(name), question) for name in names}
    return json.dumps(values, ensure_ascii=False)


def _value(schema: Any, question: str) -> Any:
    told = schema if isinstance(schema, dict) else {}
    options, kind = told.get("enum"), told.get("type")
    if isinstance(options, list) and options:
        return next((option for option in options if str(option).lower() in question.lower()), options[0])
    number = re.search(r"\d{1,18}", question)
    values: dict[str, Any] = {
        "integer": int(number[0]) if number else 0,
        "number": int(number[0]) if number else 0,
        "boolean": False,
        "array": [],
        "object": {},
    }
    # A nullable property names its types in a list.
    first = kind[0] if isinstance(kind, list) and kind else kind
    return values[first] if isinstance(first, str) and first in values else _plausible_word(question)


def _plausible_word(question: str) -> str:
    """A place after "in", else a capitalised word, if possible one that does not begin the sentence."""
    patterns = (r"\bin ([A-Z]\w+(?: [A-Z]\w+)*)", r"[\w,'’\"(] ['\"(“]?([A-Z]\w+)", r"\b([A-Z]\w+)")
    found = (re.search(pattern, question) for pattern in patterns)
    return next((match[1] for match in found if match), "")
