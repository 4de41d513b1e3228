"""Whose fault a 401 or 403 is: the worker's key is refused, and then every job would fail, or that one job is."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from backtalk.wire.errors import Refused

REFUSALS: Final = frozenset({401, 403})


class Probe(Protocol):
    """Asks an endpoint what costs next to nothing; a status of 0 means that it did not answer."""

    async def listing(self, *, keyed: bool) -> int:
        """Return the status of its list of models, with the worker's key or without."""

    async def trial(self, model: str) -> int:
        """Return the status of the smallest completion."""


class Key:
    """The worker's key at one endpoint."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._asking: dict[tuple[int, str], asyncio.Task[bool]] = {}
        self._worked: str | None = None

    def worked(self, model: str) -> None:
        """Note a model that answered with this key."""
        self._worked = model

    async def blamed(self, refused: Refused, model: str) -> bool:
        """Tell whether the key is to blame for a refusal; asked by many at once, the endpoint is asked once."""
        status = refused.error.details.get("status")
        if status not in REFUSALS:
            return False
        case = (status, model)
        asking = self._asking.get(case)
        if asking is None:
            asking = self._asking[case] = asyncio.get_running_loop().create_task(self.refused(*case))
            asking.add_done_callback(lambda _: self._asking.pop(case))
        return await asyncio.shield(asking)

    async def refused(self, status: int, model: str) -> bool:
        """Ask the endpoint again: first what only a good key gets, then what got an answer before.

        A 403 alone is no proof: some gateways send it for what a message says, or for a model that is not for all.
        """
        listed = await self._probe.listing(keyed=True)
        if listed in REFUSALS:
            # some keys may do nothing but what they worked for
            return self._worked is None or await self._probe.trial(self._worked) in REFUSALS
        if 200 <= listed < 300 and await self._probe.listing(keyed=False) in REFUSALS:
            return False
        witness = self._worked or (model if status == 401 else None)
        return witness is not None and await self._probe.trial(witness) in REFUSALS
