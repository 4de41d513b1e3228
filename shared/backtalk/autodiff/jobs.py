"""What a call says, checked and made into jobs: whatever is wrong with it is told before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from backtalk.autodiff.values import items_of, text_of
from backtalk.autodiff.variable import Variable
from backtalk.models.client import ModelClient, check_json, check_no_secrets
from backtalk.wire.codec import validate
from backtalk.wire.graph import Variable as Value
from backtalk.wire.jobs import CompletionJob

Swap: TypeAlias = Callable[[Variable], Any]


class Share(Protocol):
    """A part of a batch: which items, and what its list Variables are there."""

    def items(self, whole: Sequence[Any]) -> Sequence[Any]:
        """Return the items of a list that belong to it."""

    def value(self, handle: Variable) -> Value:
        """Return what a Variable is in it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A call, checked: all the Variables it reads, in order, and how many items it has, None for a scalar."""

    endpoint: str
    model: str
    messages: Sequence[Mapping[str, Any]]
    inputs: Mapping[str, Any]
    arguments: Mapping[str, Any]
    options: Mapping[str, Any]
    handles: tuple[Variable, ...]
    length: int | None

    @property
    def lists(self) -> tuple[Variable, ...]:
        """The Variables that hold a batch."""
        return tuple(handle for handle in self.handles if items_of(handle.read().value.data) is not None)

    def job(self, share: Share) -> CompletionJob:
        """Return the job that does one share of the call."""

        def swap(handle: Variable) -> Any:
            return share.value(handle).model_dump(mode="json")

        inputs = {
            name: share.items(given) if isinstance(given, list | tuple) else given
            for name, given in self.inputs.items()
        }
        body = {
            "model": self.model,
            "messages": self.messages,
            "inputs": inputs,
            **self.arguments,
            "backtalk": {"endpoint": self.endpoint, "record": "always", **self.options},
        }
        return validate(_swapped(body, swap), CompletionJob)


def drafted(
    client: ModelClient,
    messages: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    completion_args: Mapping[str, Any],
) -> Draft:
    """Return a call, checked. Raises ValueError and TypeError that name what is wrong."""
    arguments = {**client.completion_args, **completion_args}
    options = arguments.pop("backtalk", None) or {}
    model = arguments.pop("model", None) or client.model
    if not model:
        raise ValueError('no model is named; pass model="gpt-4o", or give the model client one')
    _check_arguments(arguments)
    _check_messages(messages)
    checked = {name: _input(given, f"inputs[{name!r}]") for name, given in inputs.items()}
    handles = tuple(dict.fromkeys(_handles((messages, checked, arguments))))
    return Draft(
        client.endpoint, model, messages, checked, arguments, options, handles, _length(handles, checked)
    )


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    check_no_secrets(arguments)
    if (arguments.get("n") or 1) > 1:
        raise ValueError("n > 1: an answer is one Variable; send the message as a batch of n items instead")
    if arguments.get("stream"):
        raise ValueError("stream: an answer is a Variable, which is whole; use backtalk.Client().stream(…)")
    check_json(_swapped(dict(arguments), lambda _: ""), "completion_args")


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise TypeError(f"messages must be a list of dicts, not {type(messages).__name__}")
    if not messages:
        raise ValueError("messages is empty; give at least one")
    for at, message in enumerate(messages):
        _check_message(message, f"messages[{at}]")


def _check_message(message: Mapping[str, Any], path: str) -> None:
    if not isinstance(message, Mapping):
        raise TypeError(f"{path} must be a dict with role and content, not {type(message).__name__}")
    if missing := [key for key in ("role", "content") if key not in message]:
        raise ValueError(f"{path} has no {' and no '.join(missing)}; its keys are {sorted(message)}")
    if not isinstance(message["role"], str):
        raise TypeError(f"{path}: role must be a str, not {type(message['role']).__name__}")
    content = message["content"]
    if content is None and message["role"] == "assistant":
        return
    if not isinstance(content, list | tuple):
        raise TypeError(
            f"{path}: content must be a list of Variables, not {type(content).__name__}; write [Variable(…)]"
        )
    wrong = sorted({type(one).__name__ for one in content if not _is_content(one)})
    if wrong:
        raise TypeError(f"{path}: content holds {', '.join(wrong)}; wrap texts in Variable(…)")
    if not content:
        raise ValueError(f"{path}: content is empty; give at least one Variable")


def _is_content(one: object) -> bool:
    return isinstance(one, Variable) or (isinstance(one, Mapping) and "type" in one)


def _input(given: Any, path: str) -> Any:
    """Return an input as a job takes it: a text, a Variable, or a list of these."""
    if isinstance(given, list | tuple):
        if not given:
            raise ValueError(f"{path} is an empty list; a batch has at least one item")
        nested = [one for one in given if isinstance(one, Variable) and isinstance(one.data, list)]
        if nested:
            raise ValueError(f"{path} is a list of Variables that are lists; give one list Variable instead")
        return [_single(one, path) for one in given]
    return _single(given, path)


def _single(given: Any, path: str) -> Any:
    if isinstance(given, Variable):
        return given
    if isinstance(given, str | int | float):
        return text_of(given)
    raise TypeError(f"{path} must be a text, a Variable, or a list of these, not {type(given).__name__}")


def _length(handles: Sequence[Variable], inputs: Mapping[str, Any]) -> int | None:
    """Return how many items a call has. Raises ValueError where lists have different lengths."""
    found = {f"inputs[{name!r}]": len(given) for name, given in inputs.items() if isinstance(given, list)}
    for handle in handles:
        count = items_of(handle.read().value.data)
        if count is not None:
            found[f"{handle.role or 'a Variable'!r}"] = count
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in found.items())
        raise ValueError(f"lengths differ: {told}; give all lists of a batch one length")
    return next(iter(found.values()), None)


def _handles(given: Any) -> Iterator[Variable]:
    """Yield every Variable in nested lists and dicts, in order."""
    if isinstance(given, Variable):
        yield given
    elif isinstance(given, Mapping):
        for item in given.values():
            yield from _handles(item)
    elif isinstance(given, list | tuple):
        for item in given:
            yield from _handles(item)


def _swapped(given: Any, swap: Swap) -> Any:
    """Return nested lists and dicts with every Variable replaced."""
    if isinstance(given, Variable):
        return swap(given)
    if isinstance(given, Mapping):
        return {key: _swapped(item, swap) for key, item in given.items()}
    if isinstance(given, list | tuple):
        return [_swapped(item, swap) for item in given]
    return given
