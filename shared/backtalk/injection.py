"""How messages change on their way to a model that knows no tools: one pure step after they are rendered.

Both workers take it, so that what the backward worker shows is what the model saw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from pydantic_core import to_json

from backtalk.wire.codec import MAX_BODY_BYTES
from backtalk.wire.errors import TooLarge
from backtalk.wire.tools import Injected, Insert, Rewritten, Segment

Message: TypeAlias = dict[str, Any]
Content: TypeAlias = str | list[dict[str, Any]] | None
TextOf: TypeAlias = Callable[[str], str]

# fields that only endpoints with tools of their own know
TOOL_FIELDS: Final = frozenset({"tool_calls", "tool_call_id", "function_call"})
_BLANK_LINE: Final = "\n\n"
_CALL_TOKEN: Final = re.compile(r"\{\{[ \t]*func_call_token[ \t]*\}\}")


def inject(messages: Sequence[Message], injected: Injected, text_of: TextOf) -> list[Message]:
    """Return the messages as they are sent; those given stay as they are. `text_of` gives the text of a variable."""
    rewritten = {rewriting.message: rewriting for rewriting in injected.messages}
    together: list[list[Message]] = []
    for at, message in enumerate(messages):
        rewriting = rewritten.get(at)
        this = message if rewriting is None else _rewritten(message, rewriting, injected)
        if rewriting is not None and rewriting.joined and together:
            together[-1].append(this)
        else:
            together.append([this])
    sent = [group[0] if len(group) == 1 else _joined(group) for group in together]
    if injected.block and sent:
        sent[0] = _with_block(sent[0], block_text(injected, text_of), injected)
    return sent


def block_text(injected: Injected, text_of: TextOf) -> str:
    """Return the injected block with the texts of its variables in it. Raises TooLarge."""
    left = MAX_BODY_BYTES
    texts = []
    for text in segment_texts(injected.block, injected.call_token or "", text_of):
        left -= len(text)
        if left < 0:
            raise TooLarge(f"the injected tools pass {MAX_BODY_BYTES} bytes; describe them in fewer words")
        texts.append(text)
    return "".join(texts)


def with_token(text: str, call_token: str) -> str:
    """Return a prefix or suffix with the call token in its place; nothing else in it means anything."""
    if text.count("{{") * len(call_token) > MAX_BODY_BYTES:
        raise TooLarge("the call token stands in it too often; say it once")
    return _CALL_TOKEN.sub(lambda _: call_token, text) if "{{" in text else text


def as_json(value: Any) -> str:
    """Return JSON as tools are written in a prompt: without spaces, and letters as they are."""
    return to_json(value).decode()


def segment_texts(segments: Iterable[Segment], call_token: str, text_of: TextOf) -> Iterator[str]:
    """Yield the texts of segments, one by one."""
    for segment in segments:
        yield _inserted(segment, call_token, text_of) if isinstance(segment, Insert) else segment


def _inserted(insert: Insert, call_token: str, text_of: TextOf) -> str:
    text = text_of(insert.variable)
    if insert.form == "json":
        return as_json(text)[1:-1]
    return with_token(text, call_token) if insert.form == "words" else text


def _rewritten(message: Message, rewriting: Rewritten, injected: Injected) -> Message:
    content = message["content"] if rewriting.content is None else rewriting.content
    role = rewriting.role or message["role"]
    dropped: set[str] = set(TOOL_FIELDS) if injected.mode == "inject" else set()
    if role != message["role"]:
        # the name of a tool is no name of a user
        dropped.add("name")
    kept = {key: value for key, value in message.items() if key not in dropped}
    return {**kept, "role": role, "content": _around(content, rewriting.before, rewriting.after) or None}


def _with_block(message: Message, block: str, injected: Injected) -> Message:
    content: Content = message["content"]
    if not content:
        return {**message, "content": block}
    if injected.side == "bottom":
        return {**message, "content": _around(content, "", _BLANK_LINE + block)}
    return {**message, "content": _around(content, block + _BLANK_LINE, "")}


def _around(content: Content, before: str, after: str) -> Content:
    """Return content with text around it; parts that are no text keep their place."""
    if not isinstance(content, list) or not content:
        return f"{before}{content or ''}{after}"
    parts = list(content)
    if before:
        first = parts.pop(0) if is_text(parts[0]) else _text_part("")
        parts.insert(0, {**first, "text": before + first["text"]})
    if after:
        last = parts.pop() if is_text(parts[-1]) else _text_part("")
        parts.append({**last, "text": last["text"] + after})
    return parts


def _joined(group: Sequence[Message]) -> Message:
    """Return one message with the contents of several."""
    contents: list[Content] = [message["content"] for message in group]
    if any(isinstance(content, list) for content in contents):
        return {**group[0], "content": [part for content in contents for part in _parts(content)]}
    return {**group[0], "content": _BLANK_LINE.join(str(content) for content in contents if content)}


def _parts(content: Content) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else [_text_part(content)] if content else []


def is_text(part: Mapping[str, Any]) -> bool:
    """Tell whether a part is a text, as OpenAI writes one."""
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
