"""What a streaming job publishes while it runs: OpenAI's chunks, and where each belongs."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from backtalk.wire.base import SCHEMA_VERSION

CHUNK_TYPE: Final = "completion.chunk.v1"


class CompletionChunk(BaseModel):
    """One `chat.completion.chunk` of one item; all fields of OpenAI's chunk stand beside those named here.

    `item` is the index into the result's `completions`, `choice` that of the one choice in the chunk (None in a
    chunk that holds the usage alone). Chunks of one `run` are numbered by `sequence` from 0. A new `run` of an item
    means start again: what earlier runs said does not count.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    schema_version: int = SCHEMA_VERSION
    run: str
    item: int
    choice: int | None
    sequence: int = 0
    choices: list[dict[str, Any]] = Field(default_factory=list)
    usage: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text that this chunk adds to its choice."""
        delta = self.choices[0].get("delta") if self.choices else None
        said = delta.get("content") if isinstance(delta, dict) else None
        return said if isinstance(said, str) else ""
