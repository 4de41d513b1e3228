"""What the chain rule hands to the rule of an operation, and what it takes back; generic in the gradient."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from backtalk.wire.errors import Error
from backtalk.wire.graph import Graph, Operation
from backward_worker.plan import Target

G = TypeVar("G")


@dataclass(frozen=True, slots=True)
class Contribution(Generic[G]):
    """What one reader of a variable, or the feedback itself (`operation` None), says about it.

    `sample` is the batch item it concerns, None for all; `feedback` the ids of the items behind it; `incomplete`
    that something which should have gone into it failed.
    """

    gradient: G
    operation: str | None = None
    input: str | None = None
    sample: int | None = None
    feedback: tuple[str, ...] = ()
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Step(Generic[G]):
    """One operation to go back through: what came in for each of its samples, and what is wanted of it.

    Where something is wanted of all samples of a `batch` together, `received` has each of them, and None for all.
    """

    graph: Graph
    operation: Operation
    targets: tuple[Target, ...]
    received: Mapping[int | None, tuple[tuple[str, Contribution[G]], ...]]
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Partly(Generic[G]):
    """A gradient, and what failed on the way to it; `incomplete` where that is missing from it."""

    gradient: G
    error: Error
    incomplete: bool = True


def gradient_of(outcome: G | Partly[G]) -> G:
    """Return the gradient, whatever failed on the way to it."""
    return outcome.gradient if isinstance(outcome, Partly) else outcome


def error_of(outcome: G | Partly[G] | Error) -> Error | None:
    """Return what failed on the way to a gradient, None where nothing did."""
    return outcome.error if isinstance(outcome, Partly) else outcome if isinstance(outcome, Error) else None


def feedback_of(said: Iterable[Contribution[Any]]) -> tuple[str, ...]:
    """Return the ids of the feedback behind several contributions, each once."""
    return tuple(dict.fromkeys(id for one in said for id in one.feedback))


Outcome: TypeAlias = G | Partly[G] | Error


class Rule(Protocol[G]):
    """How one kind of operation turns gradients of its outputs into gradients of its inputs.

    Returns what to await for each target, in their order: each is passed on as soon as it is there.
    """

    def __call__(self, step: Step[G], /) -> Sequence[Awaitable[Outcome[G]]]: ...


Received: TypeAlias = tuple[tuple[str, Contribution[G]], ...]
Rules: TypeAlias = Mapping[str, Rule[G]]
Seeds: TypeAlias = Mapping[str, Sequence[Contribution[G]]]
