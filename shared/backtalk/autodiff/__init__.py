"""Variables, the operations between them, and feedback that becomes gradients."""

from backtalk.autodiff.backward import abackward, backward
from backtalk.autodiff.completion import ITEMS_PER_JOB, Response
from backtalk.autodiff.line import ConnectionClosed
from backtalk.autodiff.mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from backtalk.autodiff.nodes import Node
from backtalk.autodiff.session import Session, close, connect
from backtalk.autodiff.tape import Tape
from backtalk.autodiff.variable import Gradient, Parameter, Variable
from backtalk.autodiff.warn import PartialWarning

__all__ = [
    "ITEMS_PER_JOB",
    "ConnectionClosed",
    "Gradient",
    "Node",
    "Parameter",
    "PartialWarning",
    "Response",
    "Session",
    "Tape",
    "Variable",
    "abackward",
    "backward",
    "close",
    "connect",
    "enable_grad",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
