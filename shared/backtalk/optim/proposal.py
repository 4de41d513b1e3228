"""What a model proposes for a text: read out of its reply, and checked before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from backtalk.prompt import BRACES

_NEW: Final = re.compile(r"<new>(?P<text>.*?)(?:</new>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"<(?P<closes>/?)new-(?P<boundary>[0-9a-f]+)>", re.IGNORECASE)
_END: Final = re.compile(r"</new(?:-[0-9a-f]+)?>\s*\Z", re.IGNORECASE)
# of all that stands in braces, what an input can be called, and what a token of an operator's templates looks like
_NAME: Final = re.compile(r"\{[^\W\d][\w.\- ]*\}|\{\{\s*[A-Za-z_]\w*\s*\}\}")


def read(reply: str, boundary: str) -> str | None:
    """Return the text that a reply proposes, None where it marks none.

    Of several the last counts: the others were drafts. A missing end tag, and tags without their boundary, are taken as
    they were meant.
    """
    said = _spoken(reply)
    tags = [match for match in _TAG.finditer(said) if match["boundary"].lower() == boundary]
    opened = [tag for tag in tags if not tag["closes"]]
    closed = [tag for tag in tags if tag["closes"]]
    if opened:
        end = closed[-1].start() if closed and closed[-1].start() > opened[0].start() else len(said)
        begin = max(tag.end() for tag in opened if tag.end() <= end)
        text = said[begin:end]
        return _unframed(text if end < len(said) else _END.sub("", text))
    found = _NEW.search(said)
    return _unframed(found["text"]) if found else None


def _spoken(reply: str) -> str:
    """Return a reply without the thought it begins with; what stands later may be part of the text."""
    said = reply.strip()
    return said.partition("</think>")[2].strip() if said.startswith("<think>") else said


def _unframed(text: str) -> str:
    """Return a text without the line breaks that set it apart from its tags; its own stay."""
    return text.removeprefix("\n").removesuffix("\n")


def problems(
    before: str, proposed: str | None, *, boundary: str, finished: bool, max_length: int | None
) -> Iterator[str]:
    """Yield what keeps a proposal from being taken, in words for the model that made it."""
    if not finished:
        yield "The reply was cut off before its end; write less."
        return
    if proposed is None:
        yield "The reply does not hold the new text between the two tags it was asked for."
        return
    if proposed == before:
        return
    if boundary in proposed:
        yield "The new text holds tags or fences of this question; it must hold nothing but the new text."
    if not proposed.strip():
        yield "The new text is empty."
    if lost := [one for one in placeholders(before) if one not in placeholders(proposed)]:
        yield f"The new text has lost {', '.join(lost)}; each must stand in it, exactly as in the old text."
    if max_length is not None and len(proposed) > max_length:
        yield f"The new text has {len(proposed)} characters; it may have at most {max_length}."


def placeholders(text: str) -> list[str]:
    """Return what a program fills in: `{name}` and `{{token}}`, each once, as they are written.

    >>> placeholders("Greet {name} by {{ func_call_token }}, not {0} or {'a': 1}.")
    ['{name}', '{{ func_call_token }}']
    """
    found = (match[0] for match in BRACES.finditer(text))
    return list(dict.fromkeys(one for one in found if _NAME.fullmatch(one)))
