"""Everything there is to say about each node, as plain data for the page to show as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from backtalk.drawing.dot import address
from backtalk.drawing.headline import headline
from backtalk.drawing.reads import Stack, beside, edge_labels
from backtalk.drawing.scene import Scene
from backtalk.drawing.words import counted, spoken, title
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Operation, Variable

# shown as links to what was read and written
_LINKED: Final = frozenset({"id", "op", "inputs", "outputs"})


def facts(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield a JSON object for each node in the order of the tape: leaves before their first reader."""
    told: set[str] = set()
    for number, (name, operation) in enumerate(scene.operations.items()):
        positions = scene.graph.index.positions[number]
        for id in [*(position.variable for position in positions), *beside(scene.graph, number)]:
            yield from _once(scene, id, told)
        yield _operation(scene, number, name, operation)
        for id in operation.outputs:
            yield from _once(scene, id, told)
    for variable in scene.graph.variables:
        yield from _once(scene, variable.id, told)
    for stack in scene.stacks.all:
        yield _stack(scene, stack)


def _once(scene: Scene, id: str, told: set[str]) -> Iterator[dict[str, Any]]:
    if id not in told:
        told.add(id)
        yield _variable(scene, scene.graph.index.variables[id])


def _variable(scene: Scene, variable: Variable) -> dict[str, Any]:
    gradients = scene.gradients_of(variable)
    leaf = variable.producer is None
    items = variable.data if isinstance(variable.data, tuple) else None
    return {
        "key": address("variable", variable.id),
        "node": scene.places[variable.id],
        "kind": "parameter" if leaf and variable.requires_grad else "variable",
        "title": variable.role,
        "short": " · ".join(filter(None, (title(spoken(_first(variable)), 80), _size(variable)))),
        "facts": _given(
            ("id", variable.id),
            ("name", variable.name),
            ("requires grad", str(scene.graph.requires_grad(variable.id)).lower()),
            ("size", _size(variable)),
        ),
        "texts": [[f"item {at}", item] for at, item in enumerate(map(_shown, items))]
        if items
        else [["", _shown(variable.data)]],
        "links": [*_writer(scene, variable), *_readers(scene, variable)],
        "gradients": [_gradient(scene, entry) for entry in gradients],
    }


def _operation(scene: Scene, number: int, name: str, operation: Operation) -> dict[str, Any]:
    told = headline(operation)
    fields = {
        field: value for field, value in operation.model_dump(mode="json").items() if field not in _LINKED
    }
    plain = {field: value for field, value in fields.items() if isinstance(value, str | int | float)}
    return {
        "key": address("operation", operation.id),
        "node": name,
        "kind": "operation",
        "title": f"{number + 1}  {told.kind}",
        "short": " · ".join([*told.names, *told.facts]),
        "facts": _given(("id", operation.id), *((field, spoken(value)) for field, value in plain.items())),
        "texts": [
            [field, json.dumps(value, indent=2, ensure_ascii=False)]
            for field, value in fields.items()
            if field not in plain and value not in (None, {}, [])
        ],
        "links": [*_reads(scene, number), *_writes(scene, operation)],
        "gradients": [],
    }


def _stack(scene: Scene, stack: Stack) -> dict[str, Any]:
    return {
        "key": address("list", stack.name),
        "node": stack.name,
        "kind": "list",
        "title": f"list of {counted(len(stack.ids), 'variable')}",
        "short": "",
        "facts": [],
        "texts": [],
        "links": [_to_variable(scene, str(at), id) for at, id in enumerate(stack.ids)],
        "gradients": [],
    }


def _gradient(scene: Scene, entry: Entry) -> dict[str, Any]:
    at = scene.graph.index.operations.get(entry.operation or "")
    told = _given(
        ("of", entry.role),
        ("how", f"{entry.how}, incomplete" if entry.incomplete else entry.how),
        ("operation", None if at is not None else entry.operation or "none: the feedback itself"),
        ("input", entry.input),
        ("sample", None if entry.sample is None else str(entry.sample)),
        ("feedback", ", ".join(entry.feedback)),
    )
    return {
        "text": entry.text,
        "facts": told,
        "links": [] if at is None else [_to_operation(scene, "through", at)],
    }


def _reads(scene: Scene, number: int) -> Iterator[dict[str, str]]:
    for id, labels in edge_labels(scene.graph.index.positions[number]):
        assert isinstance(id, str)
        yield _to_variable(scene, f"reads {', '.join(labels)}", id)
    for id in beside(scene.graph, number):
        yield _to_variable(scene, "beside", id)


def _writes(scene: Scene, operation: Operation) -> Iterator[dict[str, str]]:
    for at, id in enumerate(operation.outputs):
        yield _to_variable(scene, f"writes outputs/{at}", id)


def _writer(scene: Scene, variable: Variable) -> Iterator[dict[str, str]]:
    at = scene.graph.index.writers.get(variable.id)
    if at is not None:
        yield _to_operation(scene, "written by", at)
    elif variable.producer is not None:
        yield {"label": "written outside of this graph by", "key": "", "text": variable.producer}


def _readers(scene: Scene, variable: Variable) -> Iterator[dict[str, str]]:
    for at in scene.readers.get(variable.id, ()):
        yield _to_operation(scene, "read by", at)


def _to_variable(scene: Scene, label: str, id: str) -> dict[str, str]:
    variable = scene.graph.index.variables[id]
    text = f"{title(variable.role, 40)}: {title(spoken(_first(variable)), 60)}"
    return {"label": label, "key": address("variable", id), "text": text}


def _to_operation(scene: Scene, label: str, at: int) -> dict[str, str]:
    operation = scene.graph.operations[at]
    told = headline(operation)
    text = " ".join([str(at + 1), told.kind, *told.names])
    return {"label": label, "key": address("operation", operation.id), "text": text}


def _given(*pairs: tuple[str, str | None]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in pairs if value]


def _first(variable: Variable) -> Any:
    return variable.data[0] if isinstance(variable.data, tuple) else variable.data


def _size(variable: Variable) -> str | None:
    """Return how many items a batch has, and how many of them failed."""
    if not isinstance(variable.data, tuple):
        return None
    failed = variable.data.count(None)
    return counted(len(variable.data), "item") + (f", {failed} failed" if failed else "")


def _shown(value: Any) -> str | None:
    return None if value is None else spoken(value)
