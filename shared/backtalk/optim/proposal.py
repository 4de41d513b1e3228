"""What a model proposes for a text: read out of its reply, and checked before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_NEW: Final = re.compile(
    r"<new(?:-[0-9a-f]+)?>(?P<text>.*?)(?:</new(?:-[0-9a-f]+)?>|\Z)", re.DOTALL | re.IGNORECASE
)
_PLACEHOLDER: Final = re.compile(r"(?<!\{)\{[^\W\d][\w.\- ]*\}(?!\})")
_END: Final = re.compile(r"</new(?:-[0-9a-f]+)?>\s*\Z", re.IGNORECASE)
_TOKEN: Final = re.compile(r"\{\{\s*[A-Za-z_]\w*\s*\}\}")


def read(reply: str, boundary: str) -> str | None:
    """Return the text that a reply proposes, None where it marks none.

    A missing end tag, and a tag without its boundary, are taken as they were meant.
    """
    said = _spoken(reply)
    opened, closed = f"<new-{boundary}>", f"</new-{boundary}>"
    if opened in said:
        # the text itself may speak of such tags: it ends at the last one
        rest = said.partition(opened)[2]
        return _unframed(rest.rpartition(closed)[0] if closed in rest else _END.sub("", rest))
    found = _NEW.search(said)
    return _unframed(found["text"]) if found else None


def _spoken(reply: str) -> str:
    """Return a reply without the thought it begins with; what stands later may be part of the text."""
    said = reply.strip()
    return said.partition("</think>")[2].strip() if said.startswith("<think>") else said


def _unframed(text: str) -> str:
    """Return a text without the line breaks that set it apart from its tags; its own stay."""
    return text.removeprefix("\n").removesuffix("\n")


def problems(before: str, proposed: str | None, *, finished: bool, max_length: int | None) -> Iterator[str]:
    """Yield what keeps a proposal from being taken, in words for the model that made it."""
    if not finished:
        yield "The reply was cut off before its end; write less."
        return
    if proposed is None:
        yield "The reply does not hold the new text between the two tags it was asked for."
        return
    if proposed == before:
        return
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
    return list(dict.fromkeys([*_PLACEHOLDER.findall(text), *_TOKEN.findall(text)]))
