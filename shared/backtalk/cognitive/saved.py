"""A Parameter as a checkpoint holds it, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from backtalk.autodiff.values import Normal, value_of, words
from backtalk.autodiff.variable import Parameter


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved of one Parameter."""

    data: Normal
    role: str
    requires_grad: bool

    @classmethod
    def of(cls, name: str, told: Any) -> Self:
        """Return what was saved under a name. Raises ValueError that names it where that cannot be."""
        with fitting(name):
            return cls(value_of(told["data"]), words(told["role"], "role"), bool(told["requires_grad"]))

    def give(self, parameter: Parameter) -> None:
        """Let a Parameter take it."""
        parameter.requires_grad_(self.requires_grad)
        parameter.role = self.role
        parameter.data = list(self.data) if isinstance(self.data, tuple) else self.data


@contextmanager
def fitting(name: str) -> Iterator[None]:
    """Tell what is wrong with the state of something by its name: a ValueError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the state of {name!r} does not fit: {error}; load what state_dict returned"
        ) from error


def parts_of(state: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what a state says of Parameters and of modules. Raises ValueError for what is no state of a module."""
    if isinstance(state, Mapping) and not state.keys() - {"parameters", "modules"}:
        parameters, modules = state.get("parameters", {}), state.get("modules", {})
        if isinstance(parameters, Mapping) and isinstance(modules, Mapping):
            return parameters, modules
    raise ValueError("the state does not fit: it is none of a module; load what state_dict returned")
