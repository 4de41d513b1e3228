"""Backtalk: programs of language-model calls that learn from feedback, over RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtalk.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    # lazily, so that a worker does not import the client
    if name == "Client":
        from backtalk.client import Client  # noqa: PLC0415

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
