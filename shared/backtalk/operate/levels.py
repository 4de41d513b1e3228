"""How full the queues of a namespace are: from the management API, or with less to tell from the broker itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from backtalk.operate.management import Level, Management, NotTold
from backtalk.transport.envelope import TransportError
from backtalk.transport.rabbitmq.looking import depths
from backtalk.transport.topology import Names, topology

NO_MANAGEMENT: Final = (
    "AMQP tells neither what is unacknowledged nor rates: set BACKTALK_MANAGEMENT_URL, as in "
    "http://user:password@host:15672"
)

_GRACE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Levels:
    """Each queue of a namespace, None for one that is not there; `notes` says what is missing and why.

    `seen` is False where nobody could be asked.
    """

    queues: dict[str, Level | None]
    notes: tuple[str, ...] = ()
    seen: bool = True


async def levels(
    url: str, names: Names, management: Management | NotTold | None, *, patience: float
) -> Levels:
    """Return how full the queues are; nothing is raised, and a broker is waited for so many seconds."""
    known = [queue.name for queue in topology(names).queues]
    note = NO_MANAGEMENT
    if management is not None:
        try:
            if isinstance(management, NotTold):
                raise management
            told = await management.levels()
        except NotTold as error:
            note = f"{error}; unacknowledged messages and rates are not known"
        else:
            return Levels({name: told.get(name) for name in known})
    try:
        # one that takes connections and says nothing would be waited for longer
        async with asyncio.timeout(patience + _GRACE_SECONDS):
            found = await depths(url, known, patience=patience)
    except TimeoutError:
        return Levels(dict.fromkeys(known), (note, "the broker does not answer"), seen=False)
    except TransportError as error:
        return Levels(dict.fromkeys(known), (note, str(error)), seen=False)
    return Levels(
        {name: Level(one.ready, one.consumers) if one else None for name, one in found.items()}, (note,)
    )
