"""Everything that can be found out about a broker and the settings here, one check after the other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from backtalk.operate.checks import (
    Check,
    Status,
    of_alarm,
    of_consumers,
    of_letters,
    of_size,
    of_topology,
    of_version,
)
from backtalk.operate.declared import check
from backtalk.operate.limits import NoWorkerLimits, WorkerLimits, of_limits
from backtalk.operate.management import Management, NotTold
from backtalk.operate.policies import effective, limits_command, overridden, unbounded
from backtalk.transport.envelope import TransportError
from backtalk.transport.rabbitmq.looking import depths
from backtalk.transport.rabbitmq.probing import probe
from backtalk.transport.topology import ROLES, Names, topology
from backtalk.wire.codec import MAX_WIRE_BYTES

_NO_MANAGEMENT: Final = Check(
    "policies",
    Status.UNKNOWN,
    "AMQP does not tell policies: length limits were not checked, nor what overrides our queues",
    "set BACKTALK_MANAGEMENT_URL to http://user:password@host:15672",
)


async def examine(
    url: str,
    names: Names,
    *,
    limits: WorkerLimits | NoWorkerLimits,
    management: Management | NotTold | None,
    patience: float,
) -> tuple[Check, ...]:
    """Return all checks, in the order they were made; nothing is left on the broker."""
    version, broker = await _of_broker(url, names, management, patience)
    return (*broker, *of_limits(limits, version))


async def _of_broker(
    url: str, names: Names, management: Management | NotTold | None, patience: float
) -> tuple[str | None, tuple[Check, ...]]:
    """Return the broker's version and what is to be said about it; whatever fails on the way ends the list."""
    told: list[Check] = []
    version = None
    try:
        tried = await probe(url, MAX_WIRE_BYTES, patience=patience)
        version = tried.version
        told += (of_version(tried), of_alarm(tried), of_size(tried))
        usable = management if isinstance(management, Management) else None
        told += of_topology(await check(url, names, management=usable, patience=patience))
        found = await depths(url, (queue.name for queue in topology(names).queues), patience=patience)
        told += (*of_consumers(names, found), of_letters(names, found))
    except TransportError as error:
        name = "topology" if told else "broker"
        remedy = "check BACKTALK_AMQP_URL, and that the broker runs"
        told.append(Check(name, Status.FAILED, str(error), remedy))
        return version, tuple(told)
    return version, (*told, *[one async for one in _of_policies(names, management)])


async def _of_policies(names: Names, management: Management | NotTold | None) -> AsyncIterator[Check]:
    if management is None:
        yield _NO_MANAGEMENT
        return
    try:
        if isinstance(management, NotTold):
            raise management
        policies = await management.policies()
        told = [(queue, effective(policies, queue.name)) for queue in topology(names).queues]
    except (NotTold, re.error) as error:
        yield Check("policies", Status.UNKNOWN, str(error), "check BACKTALK_MANAGEMENT_URL")
        return
    work = {names.work(role) for role in ROLES}
    endless = [queue.name for queue, policy in told if queue.name in work and unbounded(policy)]
    changed = [f"{queue.name}: {what}" for queue, policy in told for what in overridden(queue, policy)]
    yield _of_lengths(names, endless)
    yield _of_overrides(changed)


def _of_lengths(names: Names, endless: list[str]) -> Check:
    if endless:
        told = f"{', '.join(endless)} may grow until the broker's disk is full"
        return Check("length limits", Status.WARNING, told, limits_command(names))
    return Check("length limits", Status.OK, "work queues are bounded")


def _of_overrides(changed: list[str]) -> Check:
    if changed:
        remedy = "narrow the pattern of the policy that sets it, so that these queues are not under it"
        return Check("policies", Status.WARNING, f"policies change {'; '.join(changed)}", remedy)
    return Check("policies", Status.OK, "none changes what Backtalk relies on")
