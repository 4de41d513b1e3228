"""Where a text of the tools stood in what the model saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from backtalk.injection import segment_texts
from backtalk.prompt import Conversation
from backtalk.wire.tools import Segment

THE_TEXT: Final = "[[the text in question]]"
AROUND: Final = 300


def is_tool_text(path: str) -> bool:
    """Tell whether a position is one of the tools or of their templates."""
    return path.startswith(("tools/", "tool_templates/"))


def place_of(variable: str, conversation: Conversation, sample: int | None) -> str | None:
    """Return what stood around a variable in the injected block, itself left out; None where there is no block."""
    injected = conversation.injected
    if injected is None or variable not in injected.shown:
        return None

    def texts(segments: Iterable[Segment]) -> Iterator[str]:
        return segment_texts(segments, injected.call_token or "", lambda id_: conversation.text(id_, sample))

    at = injected.shown[variable]
    before = _gathered(text[::-1] for text in texts(reversed(injected.block[:at])))[::-1]
    after = _gathered(texts(injected.block[at + 1 :]))
    return f"{before}{THE_TEXT}{after}"


def _gathered(texts: Iterable[str]) -> str:
    """Return the beginning of texts that follow each other, and look at no more of them than it takes."""
    gathered = ""
    for text in texts:
        gathered += text[: AROUND + 1 - len(gathered)]
        if len(gathered) > AROUND:
            return f"{gathered[:AROUND]}…"
    return gathered
