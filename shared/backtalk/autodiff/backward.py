"""Feedback on Variables becomes gradients of the leaves they were computed from: one message, whatever the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtalk.autodiff.line import Work
from backtalk.autodiff.session import current
from backtalk.autodiff.steps import Read, Step, graph_of, leading_to, reads_of
from backtalk.autodiff.variable import Gradient, Variable
from backtalk.autodiff.warn import warn
from backtalk.client import Client, Refused, TooLarge
from backtalk.models.backward import BackwardModelClient, chosen
from backtalk.models.client import ModelClient
from backtalk.wire.codec import validate
from backtalk.wire.errors import Code, invalid
from backtalk.wire.evaluations import explains_itself
from backtalk.wire.feedback import Feedback, FeedbackItem, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import Options
from backtalk.wire.operations import Concat
from backtalk.wire.policy import Policy


def backward(
    variables: Variable | Sequence[Variable],
    gradients: Variable | Sequence[Variable | None] | None = None,
    retain_graph: bool | None = None,  # noqa: FBT001
    create_graph: bool = False,  # noqa: FBT001, FBT002
    inputs: Variable | Sequence[Variable] | None = None,
    policy: Mapping[str, Any] | None = None,
) -> None:
    """Turn feedback on several Variables into gradients of their leaves, in one pass; see `Variable.backward`.

    `gradients` are aligned with `variables`: the feedback on each, None for evaluations. `policy` says how it is asked;
    of a batch there is one gradient unless it says otherwise.
    """
    prepared = _prepared(variables, gradients, inputs, policy, retain=_retains(retain_graph, create_graph))
    prepared.finish(current().run(prepared.send))


async def abackward(
    variables: Variable | Sequence[Variable],
    gradients: Variable | Sequence[Variable | None] | None = None,
    retain_graph: bool | None = None,  # noqa: FBT001
    create_graph: bool = False,  # noqa: FBT001, FBT002
    inputs: Variable | Sequence[Variable] | None = None,
    policy: Mapping[str, Any] | None = None,
) -> None:
    """Do what `backward` does, without blocking the event loop."""
    prepared = _prepared(variables, gradients, inputs, policy, retain=_retains(retain_graph, create_graph))
    prepared.finish(await current().arun(prepared.send))


@dataclass(frozen=True, slots=True)
class _Pass:
    """One backward pass: what is sent, and whose gradients come back, by the id that was read of them."""

    graph: Graph
    feedback: Feedback
    steps: Sequence[Step]
    wanted: Mapping[str, Variable]
    retain: bool
    model: BackwardModelClient | None

    @property
    def send(self) -> Work[Gradients]:
        async def send(client: Client) -> Gradients:
            try:
                return await client.call(self.feedback)
            except TooLarge as error:
                raise Refused(
                    Code.PAYLOAD_TOO_LARGE,
                    "the graph behind this Variable is too large for one message; call the program with fewer items "
                    "at a time and go backward after each: gradients accumulate",
                ) from error

        return send

    def finish(self, answer: Gradients) -> None:
        """Give every handle its gradients, in order, and let go of the graph."""
        # the workers' own choice is of unknown price
        (self.model or ModelClient()).spend(answer.usage, calls=answer.usage.get("calls", 0))
        answer.raise_for_status()
        starts = _starts(self.graph)
        for id, handle in self.wanted.items():
            for entry in answer.gradients.get(id, ()):
                handle.append_grad(Gradient(entry, about=id, start=starts.get(entry.operation, 0)))
        for step in self.steps:
            step.spent = step.spent or not self.retain
        if answer.failures:
            first = answer.failures[0]
            role = self.graph.index.variables[first.variable].role
            warn(
                f"{len(answer.failures)} of the questions failed; the first, about {role!r}: "
                f"{first.error.code}: {first.error.message} (a graph that is retained can be gone through again)"
            )


def _starts(graph: Graph) -> dict[str | None, int]:
    """Return of each operation that did a part of a batch with which item of the whole it began."""
    return {
        graph.operations[writer].id: position.first
        for at, operation in enumerate(graph.operations)
        if isinstance(operation, Concat)
        for position in graph.index.positions[at]
        if (writer := graph.index.writers.get(position.variable)) is not None
    }


def _retains(retain_graph: bool | None, create_graph: bool) -> bool:  # noqa: FBT001
    if create_graph:
        raise NotImplementedError("create_graph: gradients are texts and no operations; leave it False")
    return bool(retain_graph)


def _prepared(
    variables: Variable | Sequence[Variable],
    gradients: Variable | Sequence[Variable | None] | None,
    inputs: Variable | Sequence[Variable] | None,
    policy: Mapping[str, Any] | None,
    *,
    retain: bool,
) -> _Pass:
    found: Any = [variables] if isinstance(variables, Variable | None) else variables
    variables = list(found)
    if not all(isinstance(one, Variable) for one in variables):
        raise TypeError("backward takes a Variable, or several, to go back from")
    if isinstance(gradients, Variable):
        gradients = [gradients]
    given = list(gradients) if gradients is not None else [None] * len(variables)
    if len(given) != len(variables) or not variables:
        raise ValueError(f"{len(variables)} Variables and {len(given)} gradients; give one for each")
    roots = [variable.read() for variable in variables]
    if any(root.step is None for root in roots):
        raise RuntimeError(
            "this Variable has no grad_fn: no recorded operation wrote it; compute it from a Variable "
            "with requires_grad=True, outside of no_grad()"
        )
    steps = leading_to(root.step for root in roots)
    if any(step.spent for step in steps):
        raise RuntimeError(
            "a backward pass went through this graph already; "
            "pass retain_graph=True the first time to go through it again, or detach() what two graphs share"
        )
    graph = graph_of(steps)
    wanted = _wanted(steps, roots, inputs)
    items = tuple(_item(graph, root, said) for root, said in zip(roots, given, strict=True))
    model = chosen()
    feedback = Feedback(
        graph=graph,
        feedback=items,
        wrt=tuple(wanted),
        model=model.model if model else None,
        arguments=dict(model.completion_args) if model else {},
        # one gradient for each Variable and call, however many items: what an optimizer reads
        policy=_policy({"batch": "digest", **(policy or {})}),
        backtalk=Options(endpoint=model.endpoint) if model else Options(),
    )
    return _Pass(graph, feedback, steps, wanted, retain, model)


def _policy(stated: Mapping[str, Any]) -> Policy:
    if stated.get("summary"):
        raise ValueError("policy: a summary is no gradient, and grad is a list of these; leave it out")
    try:
        return validate(dict(stated), Policy)
    except Refused as refused:
        raise invalid(f"policy/{refused.error.details['path']}", str(refused).partition(": ")[2]) from refused


def _item(graph: Graph, root: Read, said: Variable | None) -> FeedbackItem:
    if said is None:
        writer = graph.operations[graph.index.writers[root.value.id]]
        if not explains_itself(writer):
            raise RuntimeError(
                "backward() needs a gradient here: a Variable that says what should change; "
                "only evaluations explain themselves"
            )
        return FeedbackItem(variable=root.value.id, text=None)
    if not isinstance(said, Variable):
        raise TypeError(
            f"a gradient is a Variable that holds a text, not {type(said).__name__}; wrap it in Variable(…)"
        )
    text = said.read().value
    if isinstance(text.data, tuple):
        _check_aligned(len(text.data), root.value.data)
    if not all(isinstance(one, str) for one in (text.data if isinstance(text.data, tuple) else (text.data,))):
        raise TypeError(f"a gradient is a text, or a list of texts; this one is {said!r}")
    return FeedbackItem(variable=root.value.id, text=text.data, id=text.id)


def _check_aligned(count: int, data: Any) -> None:
    """Refuse a list of texts about something else than a list of that length. Raises ValueError."""
    items = len(data) if isinstance(data, tuple) else None
    if count != items:
        wanted = (
            "a single text" if items is None else f"one text for each of the {items} items, or a single text"
        )
        raise ValueError(
            f"the gradient is a list of {count}, a different shape from what it is about; give {wanted}"
        )


def _wanted(
    steps: Sequence[Step], roots: Sequence[Read], inputs: Variable | Sequence[Variable] | None
) -> dict[str, Variable]:
    """Return the handles that get gradients, by the id of each value that was read of them."""
    read = [*reads_of(steps), *roots]
    if inputs is None:
        chosen_ones = list(_wanting(read))
    else:
        asked = [inputs] if isinstance(inputs, Variable) else list(inputs)
        if not all(isinstance(one, Variable) for one in asked):
            raise TypeError("inputs must be Variables, the leaves to differentiate")
        if not all(one.is_leaf for one in asked):
            raise RuntimeError("inputs must be leaves; call retain_grad() for what an operation wrote")
        chosen_ones = [one for one in read if one.handle in asked and one.value.requires_grad]
    if not chosen_ones:
        raise RuntimeError(
            "none of the inputs requires a gradient or leads to this Variable"
            if inputs is not None
            else "nothing that leads to this Variable requires a gradient; set requires_grad=True on what may change"
        )
    return {one.value.id: one.handle for one in chosen_ones}


def _wanting(reads: Sequence[Read]) -> Iterator[Read]:
    """Yield the leaves that require a gradient, and of what operations wrote the last value that keeps one."""
    last = {one.handle: one.value.id for one in reads if one.step is not None}
    for one in reads:
        if one.step is None:
            if one.value.requires_grad:
                yield one
        elif one.handle.retains_grad and last[one.handle] == one.value.id:
            yield one
