"""A program, or a part of one: what it holds that may learn, found by looking at it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Self

from backtalk.autodiff.variable import Parameter
from backtalk.cognitive.saved import Saved, fitting, parts_of


class Module:
    """Base of programs: assign Parameters and other modules as attributes, and say in `forward` what it does.

    >>> class Greeter(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.prompt = Parameter("Greet the user.", role="system prompt")
    ...     def forward(self, name):
    ...         return self.prompt + name
    >>> [name for name, _ in Greeter().named_parameters()]
    ['prompt']

    Lists and dicts of Parameters and modules count as well. `acall` awaits `aforward` where a program has one, and
    otherwise runs `forward` in a thread.
    """

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the program does; every module says it for itself."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define one")

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        """Do the same without blocking the event loop; by default `forward` in a thread."""
        return await asyncio.to_thread(self.forward, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Do what a call does, without blocking the event loop."""
        return await self.aforward(*args, **kwargs)

    # ---- what it holds

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield every Parameter once, with its dotted name."""
        seen: set[int] = set()
        for name, module in self.named_modules(prefix):
            for own, held in _held(vars(module), Parameter):
                if id(held) not in seen:
                    seen.add(id(held))
                    yield _dotted(name, own), held

    def parameters(self) -> Iterator[Parameter]:
        """Yield every Parameter once: what an optimizer takes."""
        return (parameter for _, parameter in self.named_parameters())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all within it, each once, with their dotted names."""
        waiting: list[tuple[str, Module]] = [(prefix, self)]
        seen: set[int] = set()
        while waiting:
            name, module = waiting.pop(0)
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            waiting[:0] = [(_dotted(name, own), held) for own, held in _held(vars(module), Module)]

    def modules(self) -> Iterator[Module]:
        """Yield this module and all within it, each once."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        """Yield the modules that it holds itself."""
        return (module for _, module in _held(vars(self), Module))

    # ---- how it is used

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002
        """Say that it is being trained: sets `training` on all modules."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Say that it is in use, and not being trained."""
        return self.train(mode=False)

    # ---- what is saved

    def extra_state(self) -> dict[str, Any]:
        """Return what a module keeps in a checkpoint beside Parameters; nothing by default."""
        return {}

    def check_extra_state(self, state: Any) -> None:
        """Raise ValueError for what `extra_state` never returned; called before anything is changed."""

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `extra_state` returned."""

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, as JSON holds it: Parameters by name, and completion arguments by module."""
        named = list(self.named_parameters())
        saved = {
            name: {"data": one.data, "role": one.role, "requires_grad": one.requires_grad}
            for name, one in named
        }
        if len(saved) < len(named):
            names = [name for name, _ in named]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two Parameters are called {twice!r}; leave dots out of the keys of dicts")
        return {
            "parameters": saved,
            "modules": {name: extra for name, one in self.named_modules() if (extra := one.extra_state())},
        }

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Take back what `state_dict` returned. Raises ValueError, and changes nothing, where it does not fit.

        Without `strict`, what has no counterpart is left out.
        """
        parameters, modules = dict(self.named_parameters()), dict(self.named_modules())
        saved, extras = parts_of(state)
        if strict:
            _check_names(parameters, saved, modules, extras)
        told = {name: Saved.of(name, saved[name]) for name in parameters if name in saved}
        kept = [name for name in modules if name in extras]
        for name in kept:
            with fitting(name):
                modules[name].check_extra_state(extras[name])
        for name, one in told.items():
            one.give(parameters[name])
        for name in kept:
            modules[name].load_extra_state(extras[name])


def _check_names(
    parameters: Mapping[str, Any],
    saved: Mapping[str, Any],
    modules: Mapping[str, Any],
    extras: Mapping[str, Any],
) -> None:
    missing = sorted(parameters.keys() - saved.keys())
    unknown = sorted(saved.keys() - parameters.keys()) + sorted(extras.keys() - modules.keys())
    if missing or unknown:
        raise ValueError(
            f"the state does not fit: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}; "
            "load it into the same program, or pass strict=False"
        )


def _held(found: Any, kind: type[Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is of a kind among some attributes, and in the lists and dicts among them, however deep."""
    if isinstance(found, kind):
        yield name, found
    elif isinstance(found, Mapping):
        for key, one in found.items():
            yield from _held(one, kind, _dotted(name, str(key)))
    elif isinstance(found, list | tuple):
        for at, one in enumerate(found):
            yield from _held(one, kind, _dotted(name, str(at)))


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
