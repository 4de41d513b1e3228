"""Parameters and the options that hold for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from backtalk.autodiff.variable import Variable

Params: TypeAlias = "Iterable[Variable] | Iterable[Mapping[str, Any]]"


@dataclass(frozen=True, slots=True)
class Group:
    """Some parameters, and how they are rewritten."""

    params: tuple[Variable, ...]
    constraints: tuple[str, ...] = ()
    momentum: int = 0
    in_context_examples: tuple[str, ...] = ()
    max_length: int | None = None

    @classmethod
    def options(cls) -> list[str]:
        """Return the names of all that may be said of a group beside its parameters."""
        return [field.name for field in fields(cls) if field.name != "params"]

    @classmethod
    def of(cls, told: Mapping[str, Any], defaults: Mapping[str, Any]) -> Group:
        """Return a group, checked. Raises TypeError and ValueError that name what is wrong."""
        if unknown := sorted(told.keys() - {"params", *cls.options()}):
            raise ValueError(f"a group has no option {', '.join(unknown)}; it has {', '.join(cls.options())}")
        if "params" not in told:
            raise ValueError("a group needs params, a list of Variables")
        options = {**defaults, **{name: value for name, value in told.items() if name != "params"}}
        params = told["params"]
        group = cls(
            params=(params,) if isinstance(params, Variable) else tuple(params),
            constraints=_texts(options["constraints"], "constraints"),
            momentum=options["momentum"],
            in_context_examples=_texts(options["in_context_examples"], "in_context_examples"),
            max_length=options["max_length"],
        )
        group.check()
        return group

    def check(self) -> None:
        """Raise TypeError or ValueError where it cannot be worked with."""
        if not self.params:
            raise ValueError("there is no parameter to optimize; give at least one")
        if type(self.momentum) is not int or self.momentum < 0:
            raise ValueError(f"momentum is {self.momentum!r}; it must be a number of updates, 0 or more")
        if self.max_length is not None and (type(self.max_length) is not int or self.max_length < 1):
            raise ValueError(f"max_length is {self.max_length!r}; it must be a number of characters, or None")
        for parameter in self.params:
            if not isinstance(parameter, Variable):
                raise TypeError(f"params must be Variables; found {type(parameter).__name__}")
            if not parameter.is_leaf:
                raise ValueError("params must be leaves; what an operation wrote cannot be rewritten")
            if not isinstance(parameter.data, str):
                raise ValueError(f"params must be texts; {parameter!r} is none")


def grouped(params: Params, *, taken: Sequence[Variable] = (), **defaults: Any) -> list[Group]:
    """Return parameters as groups. Raises ValueError where one stands twice."""
    if not isinstance(params, Iterable):
        raise TypeError(f"params must be Variables, e.g. module.parameters(), not {type(params).__name__}")
    given: list[Any] = list(params)
    told = given if given and all(isinstance(one, Mapping) for one in given) else [{"params": given}]
    groups = [Group.of(one, defaults) for one in told]
    flat = [*taken, *(parameter for group in groups for parameter in group.params)]
    if len(set(flat)) < len(flat):
        raise ValueError("a parameter stands twice; give each to one group, once")
    return groups


def _texts(given: Any, name: str) -> tuple[str, ...]:
    """Return a list of texts. Raises TypeError that names what is none."""
    if not isinstance(given, list | tuple):
        raise TypeError(f"{name} must be a list of texts, not {type(given).__name__}")
    texts = tuple(one.data if isinstance(one, Variable) else one for one in given)
    if wrong := [one for one in texts if not isinstance(one, str)]:
        raise TypeError(f"{name} must be texts; found {type(wrong[0]).__name__}")
    return texts
