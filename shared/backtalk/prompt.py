"""The one renderer of recorded messages: both workers must see the same text. Pure; runs no template.

Only `{name}` with `name` a key of `inputs` is replaced, in one pass over texts and string leaves of parts;
a filled value is not looked at again, `{{name}}` and every other brace stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from backtalk.injection import inject
from backtalk.wire.codec import MAX_BODY_BYTES
from backtalk.wire.errors import TooLarge
from backtalk.wire.graph import ChatCompletion, Graph, RecordedMessage, Variable
from backtalk.wire.tools import Injected, Tool, map_descriptions

Part: TypeAlias = dict[str, Any]
Fill: TypeAlias = Callable[[str], str]


class FailedItem(ValueError):
    """Raised when a sample reads null: the item of a batch that failed in an earlier job."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages with placeholders, and every value they read."""

    messages: tuple[RecordedMessage, ...]
    inputs: Mapping[str, str | tuple[str, ...]]
    variables: Mapping[str, Variable]
    parts: Mapping[str, Part]
    injected: Injected | None = None

    @classmethod
    def of(cls, operation: ChatCompletion, graph: Graph) -> Conversation:
        """Return the conversation that a recorded operation had."""
        return cls(
            operation.messages, operation.inputs, graph.index.variables, graph.parts, operation.injected
        )

    def render(self, sample: int | None, *, filled: bool = True) -> list[dict[str, Any]]:
        """Return OpenAI messages as one sample of a batch (None: no batch) sends them, what is injected included.

        With `filled=False` placeholders stay: the template. Raises FailedItem.
        """
        fill = self._fill(sample) if filled and self.inputs else _unchanged
        messages = [self._message(message, sample, fill) for message in self.messages]
        if self.injected is None:
            return messages
        return inject(messages, self.injected, lambda variable: self.text(variable, sample))

    def sent_tools(self, tools: Sequence[Tool], sample: int | None) -> tuple[Tool, ...]:
        """Return recorded tools with the texts of their variables, as an endpoint takes them."""
        return map_descriptions(tools, lambda _, ref: self.text(ref["variable"], sample))

    def text(self, variable: str, sample: int | None) -> str:
        """Return the text of a variable as one sample sees it."""
        value = self.variables[variable].value(sample)
        if value is None:
            raise FailedItem(f"item {sample} of variable {variable!r} is null: it failed in an earlier job")
        return as_text(value)

    def unused_inputs(self) -> list[str]:
        """Return the names of inputs that no message reads."""
        names = placeholders(self.inputs)
        used = {name for text in self._all_texts() for name in names(text)}
        return [name for name in self.inputs if name not in used]

    def _fill(self, sample: int | None) -> Fill:
        values = {
            name: self.text(id if isinstance(id, str) else id[sample or 0], sample)
            for name, id in self.inputs.items()
        }
        return filler(values)

    def _message(self, message: RecordedMessage, sample: int | None, fill: Fill) -> dict[str, Any]:
        content = None if message.content is None else self._content(message, sample, fill)
        return {"role": message.role, "content": content, **(message.model_extra or {})}

    def _content(self, message: RecordedMessage, sample: int | None, fill: Fill) -> str | list[Part]:
        """Join adjacent texts without a separator; a content of texts alone is a plain string."""
        joined: list[str | Part] = [""]
        for item in message.content or ():
            if not isinstance(item, str):
                joined.append(fill_leaves(self.parts[item.part], fill))
                continue
            text = fill(self.text(item, sample))
            last = joined[-1]
            if isinstance(last, str):
                joined[-1] = last + text
            else:
                joined.append(text)
        if len(joined) == 1 and isinstance(joined[0], str):
            return joined[0]
        return [{"type": "text", "text": item} if isinstance(item, str) else item for item in joined if item]

    def _all_texts(self) -> Iterable[str]:
        for message in self.messages:
            for item in message.content or ():
                if isinstance(item, str):
                    data = self.variables[item].data
                    yield from (as_text(value) for value in (data if isinstance(data, tuple) else (data,)))
                else:
                    yield from leaves(self.parts[item.part])


def as_text(value: Any) -> str:
    """Return a scalar as the model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def filler(values: Mapping[str, str]) -> Fill:
    """Return the function that replaces the placeholders of `values` in a text.

    It raises TooLarge when all it has put in together passes what a body may have: a short text can ask for a long
    value many times.
    """
    left = MAX_BODY_BYTES

    def replace(found: re.Match[str]) -> str:
        nonlocal left
        value = values.get(found["name"]) if found["name"] else None
        if value is None:
            return found[0]
        left -= len(value)
        if left < 0:
            raise TooLarge(f"filled, the messages pass {MAX_BODY_BYTES} bytes; use long inputs less often")
        return value

    return lambda text: BRACES.sub(replace, text) if "{" in text else text


def placeholders(names: Container[str]) -> Callable[[str], set[str]]:
    """Return the function that names the placeholders a text uses."""
    return lambda text: {found["name"] for found in BRACES.finditer(text) if found["name"] in names}


# {{anything}} is taken whole by the first branch and left as it is
BRACES: Final = re.compile(r"\{\{[^{}]+\}\}|\{(?P<name>[^{}]+)\}")


def fill_leaves(value: Any, fill: Fill) -> Any:
    """Return a part with its string leaves filled; keys stay."""
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, dict):
        return {key: fill_leaves(item, fill) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_leaves(item, fill) for item in value]
    return value


def leaves(value: Any) -> Iterable[str]:
    """Yield the string leaves of a part."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)


def _unchanged(text: str) -> str:
    return text
