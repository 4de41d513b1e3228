"""A batch whose only file is that of its results: what it knows lies beside it, and goes when all of them are there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backtalk.batches.batch import begun
from backtalk.batches.ledger import number_of
from backtalk.batches.requests import BadRequests, digest
from backtalk.batches.state import Facts, Form, Plan, Status
from backtalk.batches.store import Store, remove
from backtalk.client.batchfile import BadFile, need_folder
from backtalk.wire.codec import parse
from backtalk.wire.errors import Refused


@dataclass(frozen=True, slots=True)
class Finished:
    """All results are there already: how many, and how many of the requests failed."""

    total: int
    failed: int


def state_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal")


def opened(
    requests: Path,
    out: Path,
    *,
    namespace: str,
    in_flight: int,
    resend: bool,
    on_bytes: Callable[[int], None],
) -> Store | Finished:
    """Return the state of a batch that goes on, or begins; or what a finished one has to say.

    With `resend`, what was sent and not answered is sent again, under the same ids. Raises BadFile where the results
    belong to other requests, and before anything is sent where a request is bad.
    """
    if out.resolve() == requests.resolve():
        raise BadFile(f"{out}: is the file of the requests; choose another --out")
    need_folder(out)
    plan = _plan(requests, out, namespace)
    if state_of(out).exists():
        store = _going_on(plan)
    elif out.exists() and out.stat().st_size:
        return _finished(plan)
    else:
        store = Store.create(state_of(out), plan)
    if store.facts().status is Status.VALIDATING:
        try:
            begun(store, on_bytes=on_bytes)
        except BadRequests:
            store.close()
            remove(state_of(out))
            raise
    store.note(in_flight=in_flight, **({"sent": 0} if resend else {}))
    return store


def closed(store: Store) -> Facts:
    """Let go of the state of a batch that has ended; returns what is to be said of it."""
    facts = store.facts()
    store.close()
    remove(store.path)
    return facts


def _plan(requests: Path, out: Path, namespace: str) -> Plan:
    """Return the plan: the same requests have the same ids wherever their results go, and a result store knows them."""
    told = digest(requests)
    return Plan(
        id=f"submit_{told}",
        namespace=namespace,
        stream=f"submit-{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]}",
        input=requests.resolve(),
        digest=told,
        output=out.resolve(),
        errors=None,
        form=Form.BACKTALK,
    )


def _going_on(plan: Plan) -> Store:
    path = state_of(plan.output)
    store = Store(path)
    if store.plan.digest != plan.digest:
        store.close()
        raise BadFile(
            f"{path}: belongs to other requests than {plan.input}; choose another --out, or delete it"
        )
    if store.facts().status is Status.VALIDATING:
        store.close()
        return Store.create(path, plan)
    return store


def _finished(plan: Plan) -> Finished:
    count = failed = 0
    with plan.output.open("rb") as file:
        for count, text in enumerate(file, start=1):
            try:
                line = parse(text)
            except Refused:
                line = {}
            if number_of(str(line.get("id")), plan.id) != count - 1:
                raise BadFile(
                    f"{plan.output}: holds no results, or not those of {plan.input}; choose another --out"
                )
            failed += line.get("response") is None
    with plan.input.open("rb") as file:
        total = sum(bool(text.strip()) for text in file)
    if count != total:
        raise BadFile(
            f"{plan.output}: holds {count} of {total} results, and {state_of(plan.output).name} is gone; "
            "choose another --out"
        )
    return Finished(total, failed)
