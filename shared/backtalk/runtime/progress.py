"""How far a worker process has come, for whoever asks whether it is ready."""

from __future__ import annotations

from dataclasses import dataclass

from backtalk.runtime.guard import Guard
from backtalk.runtime.valve import Valve
from backtalk.transport.rabbitmq import Broker


@dataclass(slots=True)
class Progress:
    """How far a worker has come; what is not there yet is None."""

    broker: Broker | None = None
    valve: Valve | None = None
    guard: Guard | None = None
    draining: bool = False

    def conditions(self) -> dict[str, bool]:
        """Return whether it is ready, and what that is made of."""
        connected = self.broker is not None and self.broker.connected
        blocked = self.broker is not None and self.broker.blocked
        complete = self.guard is not None and self.guard.complete
        consuming = complete and self.valve is not None and self.valve.open
        return {
            "ready": connected and consuming and not self.draining and not blocked,
            "connected": connected,
            "blocked": blocked,
            "consuming": consuming,
            "draining": self.draining,
        }
