"""The state of an optimizer as JSON holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from pydantic import ValidationError

from backtalk.autodiff.variable import Gradient, Variable
from backtalk.models.client import check_no_secrets
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


@dataclass(frozen=True, slots=True)
class Restored:
    """The state of an optimizer, read and checked, before anything is changed."""

    groups: list[Group]
    state: State
    grads: Mapping[Variable, list[Variable]]
    completion_args: dict[str, Any]

    @classmethod
    def of(cls, told: Mapping[str, Any], groups: Sequence[Group]) -> Self:
        """Return a state for these groups. Raises ValueError where groups or their sizes differ, or it is none."""
        try:
            return cls._of(told, groups)
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            raise ValueError(
                f"this is no state of an optimizer: {error!r}; load what state_dict returned"
            ) from error

    @classmethod
    def _of(cls, told: Mapping[str, Any], groups: Sequence[Group]) -> Self:
        kept = told["param_groups"]
        sizes, saved_sizes = [len(group.params) for group in groups], [len(one["params"]) for one in kept]
        if sizes != saved_sizes:
            raise ValueError(
                f"the state is of groups of {saved_sizes} parameters, this optimizer has {sizes}; build it as it was"
            )
        check_no_secrets(told["completion_args"])
        each = [
            (parameter, one)
            for group, saved in zip(groups, kept, strict=True)
            for parameter, one in zip(group.params, saved["params"], strict=True)
        ]
        return cls(
            [
                Group.of({**{name: saved[name] for name in Group.options()}, "params": group.params}, {})
                for group, saved in zip(groups, kept, strict=True)
            ],
            {
                parameter: {"momentum_buffer": [_update_of(update) for update in one["momentum_buffer"]]}
                for parameter, one in each
                if one["momentum_buffer"]
            },
            {parameter: [_gradient_of(gradient) for gradient in one["grad"]] for parameter, one in each},
            dict(told["completion_args"]),
        )


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
        gradient = Gradient(Entry.model_validate(told["entry"]), told["about"], told["start"])
        # the program may have edited it
        gradient.data, gradient.role = told["data"], told["role"]
        return gradient
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
