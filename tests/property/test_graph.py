"""Any tape: it survives the wire, its contradictions are refused, and its fragments join."""

import copy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from backtalk.wire.codec import decode, encode
from backtalk.wire.graph import Graph

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**80), 2**80)
SCALARS = st.text(st.characters(codec="utf-8")) | st.booleans() | NUMBERS
DATA = SCALARS | st.lists(SCALARS | st.none(), min_size=1, max_size=4)
JSON = st.recursive(
    st.none() | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


def read(operation):
    """Return what a gradient passes to."""
    return {read.variable for read in operation.positions()}


def everything_read(operation):
    return read(operation) | set(operation.beside)


def named(operation):
    return everything_read(operation) | set(operation.outputs)


def fragments_of(graph):
    """Return each operation in a fragment of its own, with the variables it names."""
    return [
        Graph(
            variables=tuple(v for v in graph.variables if v.id in named(operation)),
            operations=(operation,),
        )
        for operation in graph.operations
    ]


@given(data=st.data())
def test_any_tape_survives_the_round_trip(tapes, data):
    """What is encoded decodes to the same graph."""
    graph = data.draw(tapes()).graph()
    assert decode(encode(graph), Graph) == graph
    assert Graph.model_validate_json(graph.model_dump_json()) == graph


@given(
    value=DATA,
    role=st.text(st.characters(codec="utf-8")),
    arguments=st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=3),
)
def test_any_data_and_any_arguments_survive_the_round_trip(value, role, arguments):
    """Numbers keep their kind, texts every character."""
    output = {"id": "b", "data": value, "role": role, "producer": "op"}
    graph = Graph.model_validate(
        {
            "variables": [{"id": "a", "data": value, "role": role, "name": role}, output],
            "operations": [
                {
                    "id": "op",
                    "op": "chat_completion",
                    "endpoint": "e",
                    "model": "m",
                    "arguments": arguments,
                    "messages": [{"role": "user", "content": ["a"], "name": role}],
                    "outputs": ["b"],
                }
            ],
        }
    )
    again = decode(encode(graph), Graph)
    assert again == graph
    assert repr(again) == repr(graph)


@given(data=st.data())
def test_a_tape_with_dependent_operations_swapped_is_refused(tapes, data):
    """An operation reads only what stands before it."""
    tape = data.draw(tapes()).json()
    graph = Graph.model_validate(tape)
    pairs = [
        (early, late)
        for late, reader in enumerate(graph.operations)
        for early, writer in enumerate(graph.operations[:late])
        if everything_read(reader) & set(writer.outputs)
    ]
    assume(pairs)
    early, late = data.draw(st.sampled_from(pairs))
    operations = tape["operations"]
    operations[early], operations[late] = operations[late], operations[early]
    with pytest.raises(ValidationError, match="only what stands before it"):
        Graph.model_validate(tape)


@given(data=st.data())
def test_a_tape_with_something_in_it_twice_is_refused(tapes, data):
    """Ids are unique, and a variable has one writer."""
    tape = data.draw(tapes()).json()
    kind = data.draw(st.sampled_from(["variables", "operations"]))
    entry = copy.deepcopy(data.draw(st.sampled_from(tape[kind])))
    if data.draw(st.booleans()):
        tape[kind].append(entry)
        told = "stands twice"
    else:
        kind = "operations"
        entry = copy.deepcopy(data.draw(st.sampled_from(tape[kind])))
        tape[kind].append({**entry, "id": "another"})
        told = "already written"
    with pytest.raises(ValidationError, match=told):
        Graph.model_validate(tape)


@given(data=st.data())
def test_a_tape_that_lost_a_variable_is_refused(tapes, data):
    """Whatever is read or written stands among the variables."""
    tape = data.draw(tapes()).json()
    graph = Graph.model_validate(tape)
    used = sorted({id for operation in graph.operations for id in named(operation)})
    lost = data.draw(st.sampled_from(used))
    tape["variables"] = [variable for variable in tape["variables"] if variable["id"] != lost]
    with pytest.raises(ValidationError, match="is not among the variables"):
        Graph.model_validate(tape)


@given(data=st.data())
def test_a_tape_that_lost_an_operation_is_a_fragment(tapes, data):
    """What the lost operation wrote comes from outside now."""
    tape = data.draw(tapes()).json()
    lost = tape["operations"].pop(data.draw(st.integers(0, len(tape["operations"]) - 1)))
    assert not set(lost["outputs"]) & Graph.model_validate(tape).index.writers.keys()


@given(data=st.data())
def test_the_fragments_of_a_tape_join_to_the_tape(tapes, data):
    """In their order they give the tape back; in any order, all of it in an order that is valid."""
    graph = data.draw(tapes()).graph()
    fragments = fragments_of(graph)
    joined = Graph.join(*fragments)
    assert joined.operations == graph.operations
    assert {v.id: v for v in joined.variables}.items() <= {v.id: v for v in graph.variables}.items()
    shuffled = Graph.join(*data.draw(st.permutations(fragments)))
    assert sorted(op.id for op in shuffled.operations) == sorted(op.id for op in graph.operations)
    assert Graph.join(shuffled, graph).operations == shuffled.operations


@given(data=st.data())
def test_requires_grad_is_what_is_reached_from_a_parameter(tapes, data):
    """A written variable requires a gradient exactly when a leaf behind it does."""
    tape = data.draw(tapes()).json()
    wanting = set()
    for variable in tape["variables"]:
        variable["requires_grad"] = data.draw(st.booleans())
        if variable["requires_grad"] and "producer" not in variable:
            wanting.add(variable["id"])
    graph = Graph.model_validate(tape)
    for operation in graph.operations:
        if read(operation) & wanting:
            wanting |= set(operation.outputs)
    assert {variable.id for variable in graph.variables if graph.requires_grad(variable.id)} == wanting
