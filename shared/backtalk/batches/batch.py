"""Batches on disk: one in a folder of its own, where only one process at a time does its work."""

from __future__ import annotations

import fcntl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from backtalk.batches.outputs import put_in_order
from backtalk.batches.requests import BadRequests, check, digest
from backtalk.batches.state import Facts, Form, Plan, Status
from backtalk.batches.store import Store, lock_of
from backtalk.client.batchfile import BadFile, need_folder

STATE: Final = "batch.db"
OUTPUT: Final = "output.jsonl"
ERRORS: Final = "errors.jsonl"


def begun(
    store: Store, *, in_flight: int | None = None, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Check the input of a batch that was created, and have its time begin; raises BadRequests.

    One that was cancelled meanwhile stays so.
    """
    try:
        check(store, on_bytes)
    except BadRequests as bad:
        store.note_problems(bad.problems)
        raise
    now, window = time.time(), store.plan.window_seconds
    expires = None if window is None else now + window
    with store.step():
        store.note(in_progress_at=now, expires_at=expires, in_flight=in_flight)
        if store.facts().status is Status.VALIDATING:
            store.note(status=Status.IN_PROGRESS)


def cancel(store: Store) -> None:
    """Note that a batch is to be cancelled; of one that was never sent, that is all there is to do."""
    with store.step():
        status, now = store.facts().status, time.time()
        if status is Status.VALIDATING:
            store.note(status=Status.CANCELLED, cancelling_at=now, ended_at=now)
        elif status is Status.IN_PROGRESS:
            store.note(status=Status.CANCELLING, cancelling_at=now)


def create(
    folder: Path,
    input: Path,
    *,
    namespace: str,
    output: Path | None = None,
    errors: Path | None = None,
    form: Form = Form.OPENAI,
    window_seconds: float | None = None,
) -> Store:
    """Make the folder of a new batch, under a new id. Raises BadFile where a file of results is taken already."""
    id = f"batch_{uuid.uuid4().hex}"
    home = folder / id
    plan = Plan(
        id=id,
        namespace=namespace,
        stream=id,
        input=input.resolve(),
        digest=digest(input),
        output=(output or home / OUTPUT).resolve(),
        errors=(errors or home / ERRORS).resolve(),
        form=form,
        window_seconds=window_seconds,
    )
    for named in filter(None, (output, errors)):
        need_folder(named)
    for path in (plan.output, plan.errors):
        if path is not None and path.exists() and (path == plan.input or path.stat().st_size):
            raise BadFile(f"{path}: is there already; name another file for the results")
    if plan.output == plan.errors:
        raise BadFile(f"{plan.output}: results and errors need a file each")
    for other, facts in all_batches(folder):
        if taken := not facts.status.ended and {plan.output, plan.errors} & {other.output, other.errors}:
            raise BadFile(f"{taken.pop()}: {other.id} writes to it; name another file for the results")
    home.mkdir(parents=True, mode=0o700)
    return Store.create(home / STATE, plan)


def find(folder: Path, id: str) -> Path:
    """Return where the state of a batch is, by its id or a beginning of it; raises BadFile."""
    found = [path for path in folder.glob(f"*/{STATE}") if path.parent.name.startswith((id, f"batch_{id}"))]
    exact = [path for path in found if path.parent.name == id]
    if len(exact or found) != 1:
        told = "no batch" if not found else f"{len(found)} batches"
        raise BadFile(f"{told} {id!r} in {folder}; `backtalk batch list` prints all")
    return (exact or found)[0]


def all_batches(folder: Path) -> list[tuple[Plan, Facts]]:
    """Return what is known of the batches of a folder, the oldest first; what cannot be read is left out."""
    found = []
    for path in folder.glob(f"*/{STATE}"):
        with suppress(BadFile), closing(Store(path)) as store:
            found.append((store.plan, store.facts()))
    return sorted(found, key=lambda one: one[1].created_at)


@contextmanager
def working(store: Store) -> Iterator[bool]:
    """Tell whether the work on a batch is ours, until the block ends; it is not while another process has it."""
    with lock_of(store.path).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if store.facts().status.ended:
            put_in_order(store)
        yield True
