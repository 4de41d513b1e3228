"""A Parameter as a checkpoint holds it, checked before anything is changed."""

from __future__ import annotations

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
        try:
            return cls(value_of(told["data"]), words(told["role"], "role"), bool(told["requires_grad"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the state of {name!r} does not fit: {error}; load what state_dict returned"
            ) from error

    def give(self, parameter: Parameter) -> None:
        """Let a Parameter take it."""
        parameter.requires_grad_(self.requires_grad)
        parameter.role = self.role
        parameter.data = list(self.data) if isinstance(self.data, tuple) else self.data
