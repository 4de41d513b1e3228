"""For services that use Backtalk: send jobs and feedback, receive results and gradients, over one connection."""

from backtalk.client.client import Client
from backtalk.transport.envelope import (
    BadAddress,
    BrokerUnreachable,
    QueueFull,
    TopologyMismatch,
    TransportError,
    Unconfirmed,
    Unroutable,
)
from backtalk.wire.errors import BacktalkError, Refused, TooLarge

__all__ = [
    "BacktalkError",
    "BadAddress",
    "BrokerUnreachable",
    "Client",
    "QueueFull",
    "Refused",
    "TooLarge",
    "TopologyMismatch",
    "TransportError",
    "Unconfirmed",
    "Unroutable",
]
