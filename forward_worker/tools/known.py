"""The functions that a reply may call, and whether a call of one is as its JSON Schema has it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from forward_worker.tools.reading import Call, Check, Fault
from forward_worker.tools.schema import ARGUMENTS_SECONDS, Schema
from forward_worker.tools.values import parse_object

# of processor time, for the arguments of all calls in a reply
REPLY_SECONDS: Final = 0.25
MAX_NAMED: Final = 20
MAX_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Known:
    """The callable functions by name, each with its schema, None where it takes whatever it is given."""

    schemas: Mapping[str, Schema | None]

    def checking(self) -> Check:
        """Return the check for one reply: all its calls together have so much processor time."""
        left = REPLY_SECONDS

        def check(value: Any) -> Call | Fault:
            nonlocal left
            began = time.thread_time()
            outcome = self.check(value, min(left, ARGUMENTS_SECONDS))
            left -= time.thread_time() - began
            return outcome

        return check

    def check(self, value: Any, seconds: float = ARGUMENTS_SECONDS) -> Call | Fault:
        """Return the call that a JSON value is, or why it is none."""
        name, arguments = named(value)
        if name is None:
            return Fault("unknown_tool", 'a call is an object with a "name" and "arguments"')
        if name not in self.schemas:
            known = ", ".join(list(self.schemas)[:MAX_NAMED]) + ("…" if len(self.schemas) > MAX_NAMED else "")
            return Fault("unknown_tool", f"there is no function {name[:MAX_NAME]!r}; there is {known}")
        if arguments is None:
            return Fault("bad_arguments", f"the arguments of {name} are no JSON object")
        schema = self.schemas[name]
        if schema is not None and (problem := schema.problem(arguments, seconds)):
            return Fault("bad_arguments", f"the arguments of {name} do not fit: {problem}")
        return Call(name, as_text(arguments))


def named(value: Any) -> tuple[str | None, dict[str, Any] | None]:
    """Return name and arguments of a call as models write it; None where there is none."""
    if not isinstance(value, dict):
        return None, None
    name = _first(value, ("name", "call"))
    arguments = _first(value, ("arguments", "parameters"))
    if isinstance(arguments, str):
        # as OpenAI has it: JSON inside of JSON
        arguments = parse_object(arguments) if arguments.strip() else {}
    elif arguments is None:
        arguments = {}
    return (
        name if isinstance(name, str) and name else None,
        arguments if isinstance(arguments, dict) else None,
    )


def anything(value: Any) -> Call | Fault:
    """Take every value that has the form of a call."""
    name, arguments = named(value)
    if name is None or arguments is None:
        return Fault("unknown_tool", "is no call")
    return Call(name, as_text(arguments))


def as_text(arguments: Mapping[str, Any]) -> str:
    """Return arguments as JSON text, with letters as they are where UTF-8 has them."""
    text = json.dumps(arguments, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # half of a surrogate pair, which JSON can name and UTF-8 cannot
        return json.dumps(arguments)
    return text


def _first(value: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)
