"""Random tapes whose operations are smooth functions of numbers, so that calculus can say what is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import tanh

import pytest
from hypothesis import strategies as st

from backtalk.wire.graph import Graph

BEND = 0.3
EVALUATIONS = ("evaluate", "judge")


@dataclass
class Tape:
    """A random tape: what each operation reads and writes, and the weights of its function.

    Output j of an operation is tanh(w_j · x) + BEND * (x_0 x_1 + x_1 x_2 + …), x being all it reads, by position.
    The score of an evaluation with a reduction is the sum of its samples' outputs; explanations are no numbers.
    """

    batch: int
    leaves: dict = field(default_factory=dict)
    operations: list = field(default_factory=list)
    weights: dict = field(default_factory=dict)

    def values(self, bumped=None, item=None, by=0.0):
        """Return the value of every variable that is a number, one of them (or one item of it) moved a little."""
        values = {}
        for id, value in self.leaves.items():
            values[id] = _moved(value, item, by) if id == bumped else value
        for operation in self.operations:
            samples = self.samples(operation, values)
            for output in _numbers(operation):
                column = [
                    self.output(output, [at(values, sample) for at in self.readers(operation)])
                    for sample in samples
                ]
                value = column[0] if samples == [None] else column
                if "reduction" in operation:
                    value = sum(column)
                values[output] = _moved(value, item, by) if output == bumped else value
        return values

    def readers(self, operation):
        """Return, for every position, the function that reads its value for a sample."""
        for ids in _positions(operation):
            if isinstance(ids, str):
                yield lambda values, sample, read=ids: _item(values[read], sample)
            else:
                yield lambda values, sample, listed=ids: values[listed[sample]]

    def samples(self, operation, values):
        lists = any(not isinstance(ids, str) for ids in _positions(operation))
        batched = any(isinstance(values[id], list) for id in _read(operation))
        return list(range(self.batch)) if lists or batched else [None]

    def output(self, id, x):
        linear = sum(w * value for w, value in zip(self.weights[id], x, strict=False))
        return tanh(linear) + BEND * sum(a * b for a, b in pairwise(x))

    def slope(self, id, x, at):
        """Return the derivative of an output by what is read at one position."""
        linear = sum(w * value for w, value in zip(self.weights[id], x, strict=False))
        neighbours = sum(x[beside] for beside in (at - 1, at + 1) if 0 <= beside < len(x))
        return (1 - tanh(linear) ** 2) * self.weights[id][at] + BEND * neighbours

    def json(self):
        values = self.values()
        explanations = {op["outputs"][1]: "" for op in self.operations if op["op"] in EVALUATIONS}
        producers = {output: op["id"] for op in self.operations for output in op["outputs"]}
        return {
            "variables": [
                {
                    "id": id,
                    "data": value,
                    "role": "number",
                    "requires_grad": id in self.leaves,
                    **({"producer": producers[id]} if id in producers else {}),
                }
                for id, value in (values | explanations).items()
            ],
            "operations": [
                {**operation, **self.words(operation, len(self.samples(operation, values)))}
                for operation in self.operations
            ],
        }

    def words(self, operation, samples):
        """Return the fields of an operation that calculus has no use for."""
        if operation["op"] == "chat_completion":
            return {"endpoint": "e", "model": "m"}
        if operation["op"] == "function":
            return {"name": "f", "description": "d", "parameters": ["p"] * len(operation["inputs"])}
        return {
            "purpose": "p",
            "scores": [0.5] * samples,
            "explanations": ["x"] * samples,
            "succeeded": [False] * samples,
        }

    def graph(self):
        return Graph.model_validate(self.json())


def _item(value, sample):
    return value[sample] if isinstance(value, list) else value


def _moved(value, item, by):
    if isinstance(value, list):
        return [one + by if at == item else one for at, one in enumerate(value)]
    return value + by


def _positions(operation):
    """Yield what is read at each position through which a gradient passes: an id, or one for each sample."""
    if operation["op"] == "chat_completion":
        yield from (id for message in operation["messages"] for id in message["content"])
        yield from operation["inputs"].values()
    elif operation["op"] == "judge":
        yield operation["inputs"][0 if operation["eval_mode"] else 1]
    else:
        yield from operation["inputs"]


def _read(operation):
    """Yield every id that is read, also those that no gradient passes to."""
    if operation["op"] == "judge":
        yield from operation["inputs"]
    else:
        yield from (id for ids in _positions(operation) for id in ([ids] if isinstance(ids, str) else ids))


def _numbers(operation):
    return operation["outputs"][:1] if operation["op"] in EVALUATIONS else operation["outputs"]


@st.composite
def _tapes(draw, most=8):
    chance = draw(st.randoms(use_true_random=False))
    tape = Tape(batch=draw(st.integers(1, 3)))

    def number():
        return round(chance.uniform(-1, 1), 3)

    for at in range(draw(st.integers(1, 4))):
        batched = chance.random() < 0.3
        tape.leaves[f"leaf{at}"] = [number() for _ in range(tape.batch)] if batched else number()
    for at in range(draw(st.integers(1, most))):
        values = tape.values()
        op = chance.choice(["chat_completion"] * 3 + ["function", *EVALUATIONS])
        operation = {"id": f"op{at}", "op": op, **_fields(chance, tape, values, op, at)}
        tape.operations.append(operation)
        for output in _numbers(operation):
            tape.weights[output] = [number() for _ in range(8)]
    return tape


def _fields(chance, tape, values, op, at):
    """Return what an operation reads and writes, of what there is so far."""
    known = list(values)
    scalars = [id for id, value in values.items() if not isinstance(value, list)]
    if op == "chat_completion":
        return _call(chance, tape, known, scalars, at)
    if op == "function":
        inputs = [chance.choice(known) for _ in range(chance.randint(1, 3))]
        return {
            "inputs": inputs,
            "outputs": [f"out{at}"],
            "transmit": chance.choice(["verbatim", "model"]),
        }
    prediction = chance.choice(known)
    reduction = {"reduction": "sum"} if chance.random() < 0.5 else {}
    written = {"inputs": [prediction], "outputs": [f"score{at}", f"why{at}"], **reduction}
    if op == "evaluate":
        return written
    replies = scalars if prediction in scalars else known
    return {
        **written,
        "inputs": [prediction, chance.choice(replies)],
        "eval_mode": chance.random() < 0.5,
    }


def _call(chance, tape, known, scalars, at):
    inputs = {}
    for name in "pq"[: chance.randint(0, 2)]:
        as_list = scalars and chance.random() < 0.3
        inputs[name] = (
            [chance.choice(scalars) for _ in range(tape.batch)] if as_list else chance.choice(known)
        )
    return {
        "messages": [
            {"role": "user", "content": [chance.choice(known) for _ in range(chance.randint(1, 2))]}
            for _ in range(chance.randint(1, 2))
        ],
        "inputs": inputs,
        "outputs": [f"out{at}.{choice}" for choice in range(chance.randint(1, 2))],
    }


@pytest.fixture(scope="session")
def tapes():
    """Return the strategy of tapes; `most` is the largest number of operations."""
    return _tapes
