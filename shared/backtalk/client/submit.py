"""A whole batch file through the queues: bounded in flight, and resumable at no cost after any interruption."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from backtalk.client.batchfile import Line, Progress, Requests, result_line
from backtalk.client.client import Client
from backtalk.transport.envelope import QueueFull

FULL_PAUSE: Final = 1.0
CANCEL_SECONDS: Final = 5.0

OnProgress: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """How many requests there were, how many failed, and how many an earlier run had answered."""

    total: int
    failed: int
    done_before: int


@dataclass(slots=True)
class _Run:
    client: Client
    progress: Progress
    stream: str
    in_flight: int
    open: dict[str, Line]
    room: asyncio.Event = field(default_factory=asyncio.Event)
    in_queue: int = 0


async def submit(
    client: Client,
    requests: Requests,
    out: Path,
    *,
    in_flight: int,
    resend: bool = False,
    on_progress: OnProgress = lambda _done: None,
) -> Summary:
    """Send what was not sent yet, collect every result, and leave them in the order of the requests.

    With `resend`, requests that were sent but never answered are sent again, under the same ids.
    """
    stream = stream_of(out)
    with Progress(requests, out) as progress:
        done_before = len(progress.done)
        waiting = {line.id: line for line in requests.lines if line.id not in progress.done}
        queued = 0 if resend else sum(id in progress.sent for id in waiting)
        on_progress(done_before)
        run = _Run(client, progress, stream, in_flight, waiting, in_queue=queued)
        if resend:
            progress.sent.clear()
        if waiting:
            await _send_and_collect(run, requests, on_progress)
        progress.finish()
    await client.forget(stream)
    return Summary(len(requests.lines), progress.failed, done_before)


def stream_of(out: Path) -> str:
    """Return the reply stream of an output file: the same for the same path."""
    return f"submit-{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]}"


async def _send_and_collect(run: _Run, requests: Requests, on_progress: OnProgress) -> None:
    unsent = [line for line in run.open.values() if line.id not in run.progress.sent]
    # the first one alone: it tells whether anybody is there, while nothing else is under way
    for line in unsent[:1]:
        await _send_one(run, requests, line)
    sender = asyncio.create_task(_send(run, requests, unsent[1:]))
    collector = asyncio.create_task(_collect(run, on_progress))
    try:
        # whoever fails first says why
        for done in asyncio.as_completed((sender, collector)):
            await done
    finally:
        sender.cancel()
        collector.cancel()
        # bounded: a call that is cancelled while its channel opens may not end by itself
        await asyncio.wait((sender, collector), timeout=CANCEL_SECONDS)


async def _send(run: _Run, requests: Requests, lines: Sequence[Line]) -> None:
    for line in lines:
        while run.in_queue >= run.in_flight:
            run.room.clear()
            await run.room.wait()
        await _send_one(run, requests, line)


async def _send_one(run: _Run, requests: Requests, line: Line) -> None:
    run.in_queue += 1
    await _enqueue(run, requests, line)
    run.progress.note_sent(line.id)


async def _enqueue(run: _Run, requests: Requests, line: Line) -> None:
    job = requests.job(line)
    while True:
        try:
            await run.client.enqueue(job, results=run.stream, id=line.id)
        except QueueFull:
            await asyncio.sleep(FULL_PAUSE)
        else:
            return


async def _collect(run: _Run, on_progress: OnProgress) -> None:
    async with aclosing(run.client.results(run.stream)) as answers:
        async for answer in answers:
            line = run.open.pop(answer.id, None)
            if line is None:
                # an answer that an earlier run had already written down
                continue
            failed = answer.status == "failed"
            run.progress.note_done(line.id, result_line(answer, line.custom_id), failed=failed)
            run.in_queue -= 1
            run.room.set()
            on_progress(len(run.progress.done))
            if not run.open:
                return
