"""Which chunks of a stream count: each once, and of each item the newest run alone."""

from __future__ import annotations

from backtalk.wire.chunk import CompletionChunk


class Runs:
    """What was seen of a stream so far: for each item its run and the last number of it, and the runs it replaced."""

    def __init__(self) -> None:
        self._last: dict[int, CompletionChunk] = {}
        self._replaced: set[tuple[int, str]] = set()

    def counts(self, chunk: CompletionChunk) -> bool:
        """Tell whether a chunk is new, and remember it if it is."""
        last = self._last.get(chunk.item)
        if (chunk.item, chunk.run) in self._replaced:
            return False
        if last is not None and last.run == chunk.run and chunk.sequence <= last.sequence:
            return False
        if last is not None and last.run != chunk.run:
            self._replaced.add((chunk.item, last.run))
        self._last[chunk.item] = chunk
        return True
