"""Whether a connection was lost of late while its process lived on: then deliveries count, although nobody died.

A broker that closes its connections one after the other hands each message on to every consumer that it has not closed
yet, and counts each of them.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from aio_pika.abc import AbstractRobustConnection

from backtalk.transport.envelope import DEADLY

SHAKEN_SECONDS: Final = 60.0
# as many as the largest sweep that was measured, and some more
DEADLY_WHEN_SHAKEN: Final = 20


class Shaken:
    """Watches one connection."""

    def __init__(self, connection: AbstractRobustConnection) -> None:
        self._since = -math.inf
        connection.reconnect_callbacks.add(self._reconnected)

    def _reconnected(self, *_: Any) -> None:
        self._since = time.monotonic()

    def deadly(self) -> int:
        """Return from how many deliveries on a message has killed, and was not only handed around."""
        return DEADLY_WHEN_SHAKEN if time.monotonic() - self._since < SHAKEN_SECONDS else DEADLY
