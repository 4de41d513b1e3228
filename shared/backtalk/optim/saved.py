"""The state of an optimizer as JSON holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from backtalk.autodiff.variable import Gradient, Variable
from backtalk.optim.groups import Group
from backtalk.optim.prompt import Update
from backtalk.wire.feedback import Entry

# of each parameter, `momentum_buffer`: the last updates, oldest first
State: TypeAlias = dict[Variable, dict[str, list[Update]]]


def state_of(groups: Sequence[Group], state: State, completion_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return groups, completion arguments and, parameter by parameter, gradients and the last updates."""
    return {
        "completion_args": dict(completion_args),
        "param_groups": [
            {
                **{name: _plain(getattr(group, name)) for name in Group.options()},
                "params": [
                    {
                        "grad": [_gradient(one) for one in parameter.grad],
                        "momentum_buffer": [
                            _update(one) for one in state.get(parameter, {}).get("momentum_buffer", ())
                        ],
                    }
                    for parameter in group.params
                ],
            }
            for group in groups
        ],
    }


def restored(state: Mapping[str, Any], groups: Sequence[Group]) -> tuple[list[Group], State]:
    """Return groups and updates as they were saved. Raises ValueError where groups or their sizes differ."""
    told = state["param_groups"]
    sizes, saved_sizes = [len(group.params) for group in groups], [len(one["params"]) for one in told]
    if sizes != saved_sizes:
        raise ValueError(
            f"the state is of groups of {saved_sizes} parameters, this optimizer has {sizes}; build it as it was"
        )
    updates: State = {}
    for group, one in zip(groups, told, strict=True):
        for parameter, kept in zip(group.params, one["params"], strict=True):
            parameter.grad[:] = [_gradient_of(gradient) for gradient in kept["grad"]]
            if kept["momentum_buffer"]:
                buffer = [_update_of(update) for update in kept["momentum_buffer"]]
                updates[parameter] = {"momentum_buffer": buffer}
    return [
        replace(group, **{name: _frozen(one[name]) for name in Group.options()})
        for group, one in zip(groups, told, strict=True)
    ], updates


def _gradient(gradient: Variable) -> dict[str, Any]:
    told = {"data": gradient.data, "role": gradient.role}
    if isinstance(gradient, Gradient):
        told |= {
            "about": gradient.about,
            "start": (gradient.item or 0) - (gradient.entry.sample or 0),
            "entry": gradient.entry.model_dump(mode="json"),
        }
    return told


def _gradient_of(told: Mapping[str, Any]) -> Variable:
    if "entry" in told:
        return Gradient(Entry.model_validate(told["entry"]), told["about"], told["start"])
    return Variable(told["data"], told["role"])


def _update(update: Update) -> dict[str, Any]:
    before = update.before
    return {
        "before": {"data": before.data, "role": before.role, "requires_grad": before.requires_grad},
        "gradients": [_gradient(one) for one in update.gradients],
    }


def _update_of(told: Mapping[str, Any]) -> Update:
    return Update(Variable(**told["before"]), [_gradient_of(one) for one in told["gradients"]])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
