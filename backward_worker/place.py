"""Where a text of the tools stood in what the model saw."""

from __future__ import annotations

from typing import Final

from backtalk.injection import block_text
from backtalk.prompt import Conversation

THE_TEXT: Final = "[[the text in question]]"
AROUND: Final = 300


def is_tool_text(path: str) -> bool:
    """Tell whether a position is one of the tools or of their templates."""
    return path.startswith(("tools/", "tool_templates/"))


def place_of(variable: str, conversation: Conversation, sample: int | None) -> str | None:
    """Return what stood around a variable in the injected block, itself left out; None where there is no block."""
    injected = conversation.injected
    if injected is None or variable not in injected.shown():
        return None
    block = block_text(
        injected, lambda other: THE_TEXT if other == variable else conversation.text(other, sample)
    )
    before, _, after = block.partition(THE_TEXT)
    return f"{_end(before)}{THE_TEXT}{_beginning(after)}"


def _end(text: str) -> str:
    return text if len(text) <= AROUND else f"…{text[-AROUND:]}"


def _beginning(text: str) -> str:
    return text if len(text) <= AROUND else f"{text[:AROUND]}…"
