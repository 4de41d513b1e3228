"""What the doctor can find, as data: pure functions of what was seen to what is told about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from backtalk.operate.declared import WRONG, Finding, State, described
from backtalk.transport.rabbitmq.declaring import WAYS_OUT
from backtalk.transport.rabbitmq.looking import Depth
from backtalk.transport.rabbitmq.probing import CONFIRM_SECONDS, Probe
from backtalk.transport.topology import ROLES, Names
from backtalk.wire.codec import MAX_WIRE_BYTES

OLDEST: Final = (3, 10)
KNOWN: Final = 4
_MIB: Final = 1024 * 1024
_MOST_TOLD: Final = 5


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, and what to do about it where it is not as it should be."""

    name: str
    status: Status
    told: str
    remedy: str = ""


def number(version: str) -> tuple[int, ...]:
    """Return a version as numbers that compare; what is no number ends it."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def of_version(probe: Probe) -> Check:
    told = f"{probe.product} {probe.version}"
    version = number(probe.version)
    if probe.product != "RabbitMQ" or not version:
        return Check("broker", Status.WARNING, f"{told} was never tried", "use RabbitMQ 3.10 to 4.x")
    if version < OLDEST:
        return Check("broker", Status.FAILED, f"{told} is too old", "upgrade to RabbitMQ 3.10 or later")
    if version[0] > KNOWN:
        return Check(
            "broker", Status.WARNING, f"{told} is newer than what was tried", "use RabbitMQ 3.10 to 4.x"
        )
    return Check("broker", Status.OK, told)


def of_alarm(probe: Probe) -> Check:
    if probe.confirms is None:
        return _not_tried("alarms", probe)
    if not probe.confirms:
        return Check(
            "alarms",
            Status.FAILED,
            f"a message was not confirmed within {CONFIRM_SECONDS:g} s: the broker has an alarm and takes nothing",
            "free memory or disk on the broker; `rabbitmq-diagnostics alarms` tells which",
        )
    return Check("alarms", Status.OK, "messages are confirmed")


def of_size(probe: Probe) -> Check:
    size = f"{MAX_WIRE_BYTES // _MIB} MiB"
    if probe.large is None:
        return _not_tried("message size", probe)
    if not probe.large:
        return Check(
            "message size",
            Status.FAILED,
            f"a message of {size}, the largest that is sent, does not pass: {probe.why}",
            "set max_message_size = 16777216 in rabbitmq.conf",
        )
    return Check("message size", Status.OK, f"{size}, the largest that is sent, pass")


def _not_tried(name: str, probe: Probe) -> Check:
    why = probe.why or "nothing can be sent"
    remedy = (
        "give the user the permission to declare queues named amq.gen-*"
        if probe.why
        else "end the alarm first"
    )
    return Check(name, Status.UNKNOWN, f"could not be tried: {why}", remedy)


def of_topology(findings: Iterable[Finding]) -> tuple[Check, Check]:
    """Return what is to be said about queues and exchanges, and about bindings."""
    told = tuple(findings)
    objects = [one for one in told if one.kind != "binding"]
    bindings = [one for one in told if one.kind == "binding"]
    return _of_findings("topology", objects), _of_findings("bindings", bindings)


def _of_findings(name: str, findings: list[Finding]) -> Check:
    wrong = [one for one in findings if one.state in WRONG]
    if wrong:
        different = any(one.state is State.DIFFERENT for one in wrong)
        remedy = (
            WAYS_OUT if different else "run `backtalk topology apply`, or start a worker: it declares all"
        )
        return Check(name, Status.FAILED, _some([described(one) for one in wrong]), remedy)
    unknown = [one for one in findings if one.state is State.UNKNOWN]
    if unknown:
        remedy = (
            "set BACKTALK_MANAGEMENT_URL" if name == "bindings" else "ask as a user who may configure queues"
        )
        return Check(name, Status.UNKNOWN, unknown[0].note or "", remedy)
    return Check(name, Status.OK, f"{len(findings)} as they should be")


def of_consumers(names: Names, depths: Mapping[str, Depth | None]) -> Iterable[Check]:
    for role in ROLES:
        queue = names.work(role)
        if depth := depths.get(queue):
            yield _of_consumers(role, queue, depth)


def _of_consumers(role: str, queue: str, depth: Depth) -> Check:
    waiting = f"{depth.ready} message{'' if depth.ready == 1 else 's'} waiting"
    if not depth.consumers:
        return Check(
            f"{role} workers", Status.WARNING, f"nobody works on {queue}, {waiting}", f"start a {role}-worker"
        )
    return Check(f"{role} workers", Status.OK, f"{depth.consumers} on {queue}, {waiting}")


def of_letters(names: Names, depths: Mapping[str, Depth | None]) -> Check:
    """Return whether anything lies where people, not workers, should look."""
    queues = {
        **{names.dead(role): f"`backtalk dead list --role {role}`" for role in ROLES},
        **{names.crashed(role): f"a {role}-worker answers and files them" for role in ROLES},
        **{names.suspect(role): f"a {role}-worker tries them one at a time" for role in ROLES},
        names.kept_results: "`backtalk dead list --queue results`; they are kept for 7 days",
    }
    full = {queue: depth for queue in queues if (depth := depths.get(queue)) and depth.ready}
    if not full:
        return Check("letters", Status.OK, "nothing is dead, crashed, suspect or unclaimed")
    told = ", ".join(f"{depth.ready} in {queue}" for queue, depth in full.items())
    return Check("letters", Status.WARNING, told, "; ".join(f"{queue}: {queues[queue]}" for queue in full))


def _some(told: list[str]) -> str:
    more = f" (and {len(told) - _MOST_TOLD} more)" if len(told) > _MOST_TOLD else ""
    return "; ".join(told[:_MOST_TOLD]) + more
