"""Textual gradient descent: a model rewrites each parameter as its gradients ask, and nothing unchecked is taken."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from backtalk.autodiff.completion import achat_completion
from backtalk.autodiff.mode import no_grad
from backtalk.autodiff.session import current
from backtalk.autodiff.variable import Variable
from backtalk.client import Client
from backtalk.models.client import ModelClient, check_json, check_no_secrets
from backtalk.optim import saved
from backtalk.optim.groups import Group, Params, grouped
from backtalk.optim.prompt import Prompt, Update, default_messages, text_in
from backtalk.optim.proposal import problems, read
from backtalk.optim.saved import State
from backtalk.optim.trial import ASKED_AT_MOST, Answer, Proposal, Wanting, failures, on_trial, taken, tell

Accept: TypeAlias = Callable[[Variable, Variable], "bool | Awaitable[bool]"]


class TGD:
    """Rewrites parameters as their gradients ask, each by one completion job, all at once.

    >>> from backtalk import Parameter
    >>> from backtalk.models.openai import OpenAI
    >>> prompt = Parameter("Greet {name}.", role="system prompt")
    >>> prompt.grad.append(Variable("Use only capital letters.", role="feedback"))
    >>> optimizer = TGD([prompt], OpenAI(model="gpt-4o"), constraints=["Stay polite."])
    >>> optimizer.step()
    >>> prompt.data
    'Greet {name}. Use only capital letters.'
    >>> optimizer.clear_grad()

    `params` are leaves that hold one text each, or dicts of `params` with options of their own. `constraints` are rules,
    and `in_context_examples` examples, that the model is shown; with `momentum` also the last so many versions and what
    was said of them. A proposal is refused, and asked for again with the reasons, that loses a `{placeholder}` or a
    `{{token}}` of the text, or is longer than `max_length` characters; it is never repaired. `accept(parameter,
    before)`, which may be a coroutine function, is called while the parameter holds its new text, and may refuse it:
    then the text is as it was. A parameter whose gradients are all empty is left alone, at no cost.

    `messages` with `inputs` replace the optimizer's own; they may use `{boundary}`, `{role}`, `{variable}`,
    `{gradients}`, `{constraints}`, `{examples}` and `{history}`, and must ask for the new text between
    `<new-{boundary}>` and `</new-{boundary}>`.
    """

    def __init__(
        self,
        params: Params,
        model_client: ModelClient,
        messages: Sequence[Mapping[str, Any]] | None = None,
        inputs: Mapping[str, Any] | None = None,
        constraints: Sequence[str | Variable] = (),
        momentum: int = 0,
        in_context_examples: Sequence[str | Variable] = (),
        *,
        accept: Accept | None = None,
        max_length: int | None = None,
        **completion_args: Any,
    ) -> None:
        check_no_secrets(completion_args)
        check_json(completion_args, "completion_args")
        self.model_client = model_client
        self.completion_args = completion_args
        self.param_groups: list[Group] = grouped(
            params,
            constraints=constraints,
            momentum=momentum,
            in_context_examples=in_context_examples,
            max_length=max_length,
        )
        self.state: State = {}
        self._messages = messages or default_messages()
        self._inputs = dict(inputs or {})
        self._accept = accept

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own; what is not said is as in the first group."""
        taken = [one for known in self.param_groups for one in known.params]
        first = self.param_groups[0]
        defaults = {name: getattr(first, name) for name in Group.options()}
        self.param_groups += grouped([group], taken=taken, **defaults)

    def clear_grad(self) -> None:
        """Empty the gradients of all parameters, in place."""
        for parameter in self._parameters():
            parameter.grad.clear()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Rewrite every parameter that something was said of, and return what `closure`, called first, returned.

        A parameter whose proposals were all refused stays as it is, and a PartialWarning says why. Where a call or an
        `accept` failed, its error is raised, after all others have been taken.
        """
        result = closure() if closure else None
        wanting = self._wanting()
        asked = current().run(lambda _: self._ask(wanting)) if wanting else []
        troubles = failures(wanting, asked)
        for group, parameter, text in taken(wanting, asked):
            with on_trial(parameter, text, troubles) as before:
                self._settle(group, parameter, before, _waited_for(self._verdict(parameter, before)))
        tell(wanting, asked, troubles)
        return result

    async def astep(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do what `step` does, without blocking the event loop; `closure` may be a coroutine function."""
        result = closure() if closure else None
        if inspect.isawaitable(result):
            result = await result
        wanting = self._wanting()
        asked = await self._ask(wanting)
        troubles = failures(wanting, asked)
        for group, parameter, text in taken(wanting, asked):
            with on_trial(parameter, text, troubles) as before:
                verdict = self._verdict(parameter, before)
                self._settle(
                    group, parameter, before, await verdict if inspect.isawaitable(verdict) else verdict
                )
        tell(wanting, asked, troubles)
        return result

    # ---- one step

    def _parameters(self) -> Iterable[Variable]:
        return (parameter for group in self.param_groups for parameter in group.params)

    def _wanting(self) -> list[Wanting]:
        return [
            (group, parameter)
            for group in self.param_groups
            for parameter in group.params
            if any(text_in(gradient) for gradient in parameter.grad)
        ]

    async def _ask(self, wanting: Sequence[Wanting]) -> list[Answer]:
        """Return a proposal for each parameter, all asked for at once; what is paid for survives another's failure."""
        return await asyncio.gather(
            *(self._propose(group, parameter) for group, parameter in wanting), return_exceptions=True
        )

    async def _propose(self, group: Group, parameter: Variable) -> Proposal:
        """Ask for a new text until one can be taken, with the reasons why the last could not."""
        history = self.state.get(parameter, {}).get("momentum_buffer", ())
        prompt = Prompt.of(parameter, group.constraints, group.in_context_examples, history)
        messages = [dict(message) for message in self._messages]
        inputs = prompt.inputs(messages, self._inputs)
        why: list[str] = []
        for turn in range(ASKED_AT_MOST):
            with no_grad():
                reply = await achat_completion(self.model_client, messages, inputs, **self.completion_args)
            if not isinstance(reply.data, str):
                raise ValueError("the optimizer's messages and inputs are a batch; give it single values")
            why = list(
                problems(
                    parameter.data,
                    proposed := read(reply.data, prompt.boundary),
                    boundary=prompt.boundary,
                    finished=reply.completions[0]["choices"][0].get("finish_reason") != "length",
                    max_length=group.max_length,
                )
            )
            if not why:
                return Proposal(proposed)
            messages += [
                {"role": "assistant", "content": [Variable(f"{{reply {turn}}}")]},
                {"role": "user", "content": [Variable(f"{{reasons {turn}}}")]},
            ]
            # filled in, so that braces in them mean nothing
            inputs |= {
                f"reply {turn}": reply.data,
                f"reasons {turn}": "\n".join([*why, "Write it once more."]),
            }
        return Proposal(None, " ".join(why))

    def _verdict(self, parameter: Variable, before: Variable) -> object:
        """Return whether a new text may stay, or what to await for that."""
        return True if self._accept is None else self._accept(parameter, before)

    def _settle(self, group: Group, parameter: Variable, before: Variable, verdict: object) -> None:
        """Keep the new text, and remember the old one as long as momentum says; or take the old one back."""
        if not verdict:
            parameter.data = before.data
        elif group.momentum:
            updates = self.state.setdefault(parameter, {"momentum_buffer": []})["momentum_buffer"]
            updates.append(Update(before, list(parameter.grad)))
            del updates[: -group.momentum]

    # ---- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what checkpoints hold: options, completion arguments, gradients, and the last updates."""
        return saved.state_of(self.param_groups, self.state, self.completion_args)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned. Raises ValueError where groups or their sizes differ."""
        restored = saved.Restored.of(state, self.param_groups)
        self.param_groups, self.state = restored.groups, restored.state
        self.completion_args = restored.completion_args
        for parameter, grad in restored.grads.items():
            parameter.grad[:] = grad


def _waited_for(verdict: object) -> object:
    """Return a verdict; one that is awaited, once it is there."""
    if not inspect.isawaitable(verdict):
        return verdict

    async def awaited(_: Client) -> object:
        return await verdict

    return current().run(awaited)
