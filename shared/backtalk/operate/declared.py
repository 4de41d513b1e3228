"""The topology against a broker: for each object, whether it is there and as Backtalk declares it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from backtalk.operate.management import Management, NotTold
from backtalk.transport.envelope import TopologyMismatch
from backtalk.transport.rabbitmq import declare
from backtalk.transport.rabbitmq.declaring import WAYS_OUT
from backtalk.transport.rabbitmq.looking import Seen, compare
from backtalk.transport.topology import Binding, Names, topology

NOT_SEEN: Final = "AMQP does not tell bindings; give --management-url to check them"

NOT_ALLOWED: Final = "it is there, but this user of the broker may not declare, and so not compare arguments"


class State(StrEnum):
    OK = "ok"
    MISSING = "missing"
    DIFFERENT = "different"
    UNKNOWN = "not checked"


WRONG: Final = frozenset({State.MISSING, State.DIFFERENT})


@dataclass(frozen=True, slots=True)
class Finding:
    """One object of the topology as the broker has it; `note` says why it was not checked."""

    kind: str
    name: str
    state: State
    argument: str | None = None
    wanted: str | None = None
    found: str | None = None
    note: str | None = None


async def check(
    url: str, names: Names, *, management: Management | None, patience: float
) -> tuple[Finding, ...]:
    """Compare the whole topology with the broker, and make nothing. Raises BrokerUnreachable."""
    wanted = topology(names)
    seen = await compare(url, (*wanted.exchanges, *wanted.queues), patience=patience)
    objects = (
        *(_finding("exchange", one.name, seen[one.name]) for one in wanted.exchanges),
        *(_finding("queue", one.name, seen[one.name]) for one in wanted.queues),
    )
    return (*objects, *await _bindings(wanted.bindings, management))


async def apply(url: str, names: Names, *, patience: float) -> tuple[Finding, ...]:
    """Declare what is missing, bindings included, and return what was made.

    Raises BrokerUnreachable, and TopologyMismatch before anything is made.
    """
    found = await check(url, names, management=None, patience=patience)
    different = [one for one in found if one.state is State.DIFFERENT]
    if different:
        told = "; ".join(described(one) for one in different)
        raise TopologyMismatch(f"nothing was made, since these are there already: {told}. {WAYS_OUT}")
    await declare(url, topology(names), patience=patience)
    return tuple(one for one in found if one.state is State.MISSING)


def described(finding: Finding) -> str:
    """Return what is wrong with an object, in words."""
    if finding.state is State.DIFFERENT:
        return f"{finding.kind} {finding.name}: {finding.argument} should be {finding.wanted}, is {finding.found}"
    return f"{finding.kind} {finding.name}: {finding.note or finding.state.value}"


def _finding(kind: str, name: str, seen: Seen) -> Finding:
    if not seen.there:
        return Finding(kind, name, State.MISSING)
    if differs := seen.differs:
        return Finding(kind, name, State.DIFFERENT, differs.argument, differs.wanted, differs.found)
    if seen.refused:
        return Finding(kind, name, State.UNKNOWN, note=NOT_ALLOWED)
    return Finding(kind, name, State.OK)


async def _bindings(wanted: tuple[Binding, ...], management: Management | None) -> tuple[Finding, ...]:
    if management is None:
        return tuple(_binding(one, State.UNKNOWN, NOT_SEEN) for one in wanted)
    try:
        found = await management.bindings()
    except NotTold as error:
        return tuple(_binding(one, State.UNKNOWN, str(error)) for one in wanted)
    return tuple(_binding(one, State.OK if one in found else State.MISSING) for one in wanted)


def _binding(binding: Binding, state: State, note: str | None = None) -> Finding:
    return Finding("binding", f"{binding.exchange} -{binding.key}-> {binding.queue}", state, note=note)
