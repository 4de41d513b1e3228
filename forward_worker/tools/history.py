"""Earlier calls and their answers, as the messages of a job hold them, put into words for models that know neither."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from backtalk.injection import TOOL_FIELDS
from backtalk.wire.errors import Refused, invalid
from backtalk.wire.graph import RecordedMessage, Variable
from backtalk.wire.tools import Rewritten, ToolMode
from forward_worker.draft import canonical
from forward_worker.record import spoken
from forward_worker.tools.known import anything, as_text
from forward_worker.tools.parse import read
from forward_worker.tools.reading import Call, Fault
from forward_worker.tools.values import parse_object
from forward_worker.tools.words import Words

# the roles of answers to calls; the second is what OpenAI had before the first
_ANSWERS: Final = frozenset({"tool", "function"})


@dataclass(frozen=True, slots=True)
class Made:
    """A call that an earlier message made, with its id."""

    id: str | None
    call: Call


def rewritings(
    messages: Sequence[RecordedMessage], variables: Mapping[str, Variable], mode: ToolMode, words: Words
) -> Iterator[Rewritten]:
    """Yield how messages are sent that a model without tools would not understand as they stand.

    In native mode that is only a recorded reply whose text repeats the calls beside it.
    """
    names: dict[str | None, str] = {}
    for at, message in enumerate(messages):
        made = _made(message, f"messages/{at}", mode)
        names.update({one.id: one.call.name for one in made})
        outside = _outside(message, variables, made, words.call_token)
        if mode == "native":
            if outside is not None:
                yield Rewritten(message=at, content=outside)
        elif message.role in _ANSWERS:
            yield _answer(message, at, names, words, joined=at > 0 and messages[at - 1].role in _ANSWERS)
        elif words.roles[message.role] != message.role or TOOL_FIELDS & (message.model_extra or {}).keys():
            yield _spoken_message(message, at, made, outside, variables, words)


def _made(message: RecordedMessage, path: str, mode: ToolMode) -> Sequence[Made]:
    """Return the calls of a message. In inject mode, raises Refused where they are not in OpenAI's form."""
    if message.role != "assistant" or not message.model_extra:
        return ()
    try:
        return list(_calls(message.model_extra, path))
    except Refused:
        if mode == "inject":
            raise
        # what an endpoint makes of it is its own affair
        return ()


def _calls(told: Mapping[str, Any], path: str) -> Iterator[Made]:
    calls = told.get("tool_calls")
    if not isinstance(calls, list | None):
        raise invalid(f"{path}/tool_calls", "expected a list of calls")
    for at, call in enumerate(calls or ()):
        if not isinstance(call, dict):
            raise invalid(f"{path}/tool_calls/{at}", "expected a call, an object")
        id = call.get("id")
        yield Made(id if isinstance(id, str) else None, _call(call, f"{path}/tool_calls/{at}"))
    # what was there before tool_calls
    if told.get("function_call"):
        yield Made(None, _call({"function": told["function_call"]}, f"{path}/function_call"))


def _call(call: Mapping[str, Any], path: str) -> Call:
    """Return a call of a function, or of a custom tool, which takes text where a function takes arguments."""
    kind, takes = ("custom", "input") if "custom" in call else ("function", "arguments")
    described = call.get(kind)
    if isinstance(described, dict):
        name, arguments = described.get("name"), described.get(takes)
        if isinstance(name, str) and isinstance(arguments, str | None):
            return Call(name, arguments or "{}")
    raise invalid(f"{path}/{kind}", f"expected an object with `name` and `{takes}`, both texts")


def _outside(
    message: RecordedMessage, variables: Mapping[str, Variable], made: Sequence[Made], call_token: str
) -> str | None:
    """Return the text of a recorded reply without the calls that stand beside it, None where it stays as it is."""
    content = message.content or ()
    if not made or len(content) != 1 or not isinstance(content[0], str):
        return None
    text = variables[content[0]].data
    if not isinstance(text, str):
        return None
    lines = spoken((one.call.name, one.call.arguments) for one in made)
    if text == lines:
        return ""
    if text.endswith(f"\n{lines}"):
        return text.removesuffix(f"\n{lines}")
    beside = [_meaning(one.call) for one in made]
    wanted = set(beside)
    reading = read(text, call_token, lambda value: _taken(value, wanted))
    return (reading.content or "") if [_meaning(call) for call in reading.calls] == beside else None


def _taken(value: Any, wanted: Container[str]) -> Call | Fault:
    """Return a call only where it stands beside the text as well; the others were not taken, and stay."""
    call = anything(value)
    if isinstance(call, Call) and _meaning(call) not in wanted:
        return Fault("unknown_tool", "was not taken")
    return call


def _meaning(call: Call) -> str:
    """Return a text that is the same for calls that mean the same."""
    return canonical([call.name, parse_object(call.arguments)])


def _answer(
    message: RecordedMessage, at: int, names: Mapping[str | None, str], words: Words, *, joined: bool
) -> Rewritten:
    told = message.model_extra or {}
    id = told.get("tool_call_id")
    name = names.get(id if isinstance(id, str) else None, told.get("name"))
    before, after = words.tool_response(
        id if isinstance(id, str) else None, name if isinstance(name, str) else None
    )
    return Rewritten(message=at, role=words.roles[message.role], before=before, after=after, joined=joined)


def _spoken_message(
    message: RecordedMessage,
    at: int,
    made: Sequence[Made],
    outside: str | None,
    variables: Mapping[str, Variable],
    words: Words,
) -> Rewritten:
    notice = words.earlier_calls([_told(one) for one in made]) if made else ""
    said = outside if outside is not None else _says_something(message, variables)
    role = words.roles[message.role]
    return Rewritten(
        message=at,
        role=None if role == message.role else role,
        content=outside,
        after=f"\n{notice}" if notice and said else notice,
    )


def _says_something(message: RecordedMessage, variables: Mapping[str, Variable]) -> bool:
    return any(not isinstance(item, str) or variables[item].data != "" for item in message.content or ())


def _told(made: Made) -> dict[str, Any]:
    """Return a call for a template; arguments that are no JSON object are printed as a JSON string."""
    arguments = parse_object(made.call.arguments)
    shown = as_text({"": made.call.arguments})[5:-1] if arguments is None else as_text(arguments)
    return {"id": made.id, "name": made.call.name, "arguments": shown}
