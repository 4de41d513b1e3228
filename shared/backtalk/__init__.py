"""Backtalk: programs of language-model calls that learn from feedback, over RabbitMQ."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from backtalk.autodiff import (
        ConnectionClosed,
        Gradient,
        Parameter,
        PartialWarning,
        Response,
        Tape,
        Variable,
        abackward,
        backward,
        close,
        connect,
        enable_grad,
        is_grad_enabled,
        no_grad,
        set_grad_enabled,
    )
    from backtalk.checkpoint import load, save
    from backtalk.client import BrokerUnreachable, Client, Refused
    from backtalk.functional import FunctionFailed, function
    from backtalk.models import get_backward_model_client, set_backward_model_client

# by module, and lazily: a worker imports neither the client nor what is built on it
_NAMES: Final = {
    "backtalk.client": ("BrokerUnreachable", "Client", "Refused"),
    "backtalk.autodiff": (
        "Tape",
        "Response",
        "Gradient",
        "ConnectionClosed",
        "Parameter",
        "PartialWarning",
        "Variable",
        "abackward",
        "backward",
        "close",
        "connect",
        "enable_grad",
        "is_grad_enabled",
        "no_grad",
        "set_grad_enabled",
    ),
    "backtalk.checkpoint": ("load", "save"),
    "backtalk.functional": ("FunctionFailed", "function"),
    "backtalk.models": ("get_backward_model_client", "set_backward_model_client"),
}
_MODULES: Final = ("cognitive", "data", "functional", "models", "optim", "trainer")
_OWNERS: Final = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "BrokerUnreachable",
    "Client",
    "ConnectionClosed",
    "FunctionFailed",
    "Gradient",
    "Parameter",
    "PartialWarning",
    "Refused",
    "Response",
    "Tape",
    "Variable",
    "abackward",
    "backward",
    "close",
    "cognitive",
    "connect",
    "data",
    "enable_grad",
    "function",
    "functional",
    "get_backward_model_client",
    "is_grad_enabled",
    "load",
    "models",
    "no_grad",
    "optim",
    "save",
    "set_backward_model_client",
    "set_grad_enabled",
    "trainer",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"backtalk.{name}")
    if name in _OWNERS:
        return getattr(import_module(_OWNERS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
