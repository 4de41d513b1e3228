"""What a call says, checked and made into jobs: whatever is wrong with it is told before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from backtalk.autodiff.recording import Begun
from backtalk.autodiff.values import items_of
from backtalk.autodiff.variable import Variable
from backtalk.models.client import ModelClient, check_json, check_no_secrets
from backtalk.prompt import as_text
from backtalk.wire.codec import validate
from backtalk.wire.graph import Variable as Value
from backtalk.wire.jobs import CompletionJob

Swap: TypeAlias = Callable[[Any], Any]


class Share(Protocol):
    """A part of a batch: which items, and what its lists are there."""

    def items(self, whole: Sequence[Any]) -> Sequence[Any]:
        """Return the items of a list that belong to it."""

    def value(self, whole: Value) -> Value:
        """Return what a value is in it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A call, checked: its job with values in the place of Variables, and how many items it has, None for a scalar.

    What the program changes from now on changes nothing of it.
    """

    begun: Begun
    body: Mapping[str, Any]
    length: int | None

    @property
    def model(self) -> str:
        """The model that it names."""
        model: str = self.body["model"]
        return model

    @property
    def lists(self) -> tuple[Value, ...]:
        """The values that hold a batch."""
        return tuple(read.value for read in self.begun.reads if items_of(read.value.data) is not None)

    def job(self, share: Share) -> CompletionJob:
        """Return the job that does one share of the call."""
        inputs = {
            name: share.items(given) if isinstance(given, list) else given
            for name, given in self.body["inputs"].items()
        }
        told = _swapped(
            {**self.body, "inputs": inputs}, lambda whole: share.value(whole).model_dump(mode="json")
        )
        return validate(told, CompletionJob)


def drafted(
    client: ModelClient,
    messages: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    completion_args: Mapping[str, Any],
) -> Draft:
    """Return a call, checked. Raises ValueError and TypeError that name what is wrong."""
    arguments = {**client.completion_args, **completion_args}
    options = arguments.pop("backtalk", None) or {}
    if not isinstance(options, Mapping):
        raise TypeError(f"backtalk must be a dict of options, not {type(options).__name__}")
    if taken := sorted({"endpoint", "record"} & options.keys()):
        raise ValueError(
            f"backtalk: {', '.join(taken)} cannot be set here; the model client names the endpoint, and "
            "no_grad() decides what is recorded"
        )
    model = arguments.pop("model", None) or client.model
    if not model:
        raise ValueError('no model is named; pass model="gpt-4o", or give the model client one')
    _check_arguments(arguments)
    _check_messages(messages)
    checked = {name: _input(given, f"inputs[{name!r}]") for name, given in inputs.items()}
    begun = Begun.reading(dict.fromkeys(_handles((messages, checked, arguments))))
    body = {
        "model": model,
        "messages": messages,
        "inputs": checked,
        **arguments,
        "backtalk": {"endpoint": client.endpoint, "record": "always", **options},
    }
    values = {read.handle: read.value for read in begun.reads}
    return Draft(begun, _swapped(body, values.__getitem__), _length(begun, checked))


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    check_no_secrets(arguments)
    if arguments.get("n") not in (None, 1):
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
        return as_text(given)
    raise TypeError(f"{path} must be a text, a Variable, or a list of these, not {type(given).__name__}")


def _length(begun: Begun, inputs: Mapping[str, Any]) -> int | None:
    """Return how many items a call has. Raises ValueError where lists have different lengths."""
    found = {f"inputs[{name!r}]": len(given) for name, given in inputs.items() if isinstance(given, list)}
    for read in begun.reads:
        count = items_of(read.value.data)
        if count is not None:
            found[f"{read.value.role or 'a Variable'!r}"] = count
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
    """Return nested lists and dicts with every Variable, or value of one, replaced."""
    if isinstance(given, Variable | Value):
        return swap(given)
    if isinstance(given, Mapping):
        return {key: _swapped(item, swap) for key, item in given.items()}
    if isinstance(given, list | tuple):
        return [_swapped(item, swap) for item in given]
    return given
