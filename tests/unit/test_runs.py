"""Which chunks of a stream count."""

from __future__ import annotations

from backtalk.client.runs import Runs
from backtalk.wire.chunk import CompletionChunk


def counted(*told):
    """Return what is left of chunks such as `"0a1"`: item 0, run a, number 1."""
    runs = Runs()
    chunks = (CompletionChunk(item=int(one[0]), run=one[1], sequence=int(one[2:]), choice=0) for one in told)
    return [one for one, chunk in zip(told, chunks, strict=True) if runs.counts(chunk)]


def test_repeats_do_not_count():
    """What was not acknowledged in time comes again, in its order."""
    assert counted("0a0", "0a1", "0a0", "0a1", "0a2", "0a2", "0a10") == ["0a0", "0a1", "0a2", "0a10"]


def test_a_replaced_run_does_not_come_back():
    """Of each item the newest run counts alone, however many there were."""
    told = ("0a0", "0a1", "0b0", "0a2", "0b1", "0a3", "0c0", "0b2", "0a4", "0c1")
    assert counted(*told) == ["0a0", "0a1", "0b0", "0b1", "0c0", "0c1"]


def test_the_items_of_a_batch_have_runs_of_their_own():
    """One that starts again does not disturb the others."""
    told = ("0a0", "1b0", "0c0", "1b1", "0a1", "0c1", "1b1")
    assert counted(*told) == ["0a0", "1b0", "0c0", "1b1", "0c1"]
