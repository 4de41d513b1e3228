"""Composition of fragments: a stable merge, or a refusal that shows both values."""

import pytest

from backtalk.wire.errors import Code, Refused
from backtalk.wire.graph import Graph
from backtalk.wire.join import same_json

CANARY = "canary-5fa1"


def ids(graph):
    return [operation.id for operation in graph.operations]


def outside(producer, data="text", **more):
    return {"data": data, "producer": producer, **more}


def conflict(*fragments):
    with pytest.raises(Refused) as caught:
        Graph.join(*fragments)
    error = caught.value.error
    assert error.code == Code.GRAPH_CONFLICT
    return error


def test_one_fragment_joins_to_itself(example):
    """There is nothing to merge in one fragment."""
    graph = Graph.model_validate(example)
    assert Graph.join(graph) == graph


def test_the_same_fragment_twice_is_the_fragment(example):
    """Equal entries merge."""
    graph = Graph.model_validate(example)
    assert Graph.join(graph, Graph.model_validate(example), graph) == graph


def test_no_fragments_join_to_the_empty_graph():
    """Nothing composed with nothing is an empty tape."""
    assert Graph.join() == Graph()


def test_a_fragment_finds_the_producer_of_what_it_reads_in_another(graph_of):
    """What was outside of one fragment is written by another, whichever comes first."""
    first = graph_of({"a": {"data": "1", "requires_grad": True}, "b": "2"}, ("op1", "a", "b"))
    second = graph_of({"b": outside("op1", "2"), "c": "3"}, ("op2", "b", "c"))
    for fragments in ((first, second), (second, first)):
        whole = Graph.join(*fragments)
        assert ids(whole) == ["op1", "op2"]
        assert whole.requires_grad("c")


def judged(eval_mode):
    """Return a fragment with a judge that reads a prediction and a reply, both written elsewhere."""
    judge = {
        "id": "judge",
        "op": "judge",
        "inputs": ["prediction", "reply"],
        "outputs": ["s", "e"],
        "purpose": "kindness",
        "scores": [1],
        "explanations": [""],
        "succeeded": [True],
        "eval_mode": eval_mode,
    }
    variables = [
        {"id": "prediction", "data": "text", "role": "role of prediction", "producer": "model"},
        {"id": "reply", "data": "text", "role": "role of reply", "producer": "asked"},
        {"id": "s", "data": 1, "role": "role of s", "producer": "judge"},
        {"id": "e", "data": "", "role": "role of e", "producer": "judge"},
    ]
    return Graph.model_validate({"variables": variables, "operations": [judge]})


@pytest.mark.parametrize("eval_mode", [True, False])
def test_a_judge_waits_for_both_that_it_reads(graph_of, eval_mode):
    """Also for the one that no gradient passes to, in whichever fragment that is written."""
    prediction = graph_of({"a": "1", "prediction": "text"}, ("model", "a", "prediction"))
    reply = graph_of({"b": "1", "reply": "text"}, ("asked", "b", "reply"))
    assert ids(Graph.join(judged(eval_mode), prediction, reply)) == ["model", "asked", "judge"]
    assert ids(Graph.join(reply, judged(eval_mode), prediction)) == ["asked", "model", "judge"]


@pytest.mark.parametrize("eval_mode", [True, False])
@pytest.mark.parametrize(("reads", "id"), [("prediction", "model"), ("reply", "asked")])
def test_a_cycle_through_either_side_of_a_judge_is_refused(graph_of, eval_mode, reads, id):
    """What a judge reads cannot come of what it wrote."""
    late = graph_of({"e": outside("judge", ""), reads: "text"}, (id, "e", reads))
    error = conflict(judged(eval_mode), late)
    assert set(error.details["values"]) == {"judge", id}
    assert "cycle" in error.message


def test_independent_operations_keep_the_order_of_the_arguments(graph_of):
    """Ties go by argument order, and within a fragment by its own order."""
    left = graph_of({"a": "1", "l1": "2", "l2": "3"}, ("L1", "a", "l1"), ("L2", "a", "l2"))
    right = graph_of({"a": "1", "r1": "2", "r2": "3"}, ("R1", "a", "r1"), ("R2", "a", "r2"))
    assert ids(Graph.join(left, right)) == ["L1", "L2", "R1", "R2"]
    assert ids(Graph.join(right, left)) == ["R1", "R2", "L1", "L2"]


def test_an_operation_waits_for_what_it_reads_and_for_nothing_else(graph_of):
    """Only a read moves an operation back; all others stay as early as their argument puts them."""
    early = graph_of(
        {"x": outside("W"), "a": "1", "y": "2", "z": "3"}, ("reads-x", "x", "y"), ("free", "a", "z")
    )
    late = graph_of({"a": "1", "b": "2", "x": "text"}, ("other", "a", "b"), ("W", "a", "x"))
    assert ids(Graph.join(early, late)) == ["free", "other", "W", "reads-x"]


def test_a_tape_in_order_stays_in_its_order(graph_of):
    """A stable merge never reorders what needs no reordering."""
    chain = graph_of(
        {"a": "1", "b": "2", "c": "3", "d": "4"}, ("z", "a", "b"), ("y", "a", "c"), ("x", "b c", "d")
    )
    assert ids(Graph.join(chain)) == ["z", "y", "x"]


def test_a_long_chain_joins_in_any_order_of_its_links(graph_of):
    """A thousand fragments, each with one link, are put in order without recursion."""
    links = [
        graph_of(
            {str(at): outside(f"op{at - 1}") if at else "text", str(at + 1): "text"},
            (f"op{at}", str(at), str(at + 1)),
        )
        for at in range(1000)
    ]
    assert ids(Graph.join(*reversed(links))) == [f"op{at}" for at in range(1000)]


@pytest.mark.parametrize(("left", "right"), [(1, 1.0), ([1, 2.0], [1.0, 2]), ("a", "a"), (True, True)])
def test_values_that_are_equal_as_json_merge(graph_of, left, right):
    """1 equals 1.0 on the wire, and the first spelling stays."""
    whole = Graph.join(graph_of({"a": left}), graph_of({"a": right}))
    assert whole == graph_of({"a": left})


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (0, False),
        ([1], [True]),
        ("1", 1),
        ("a", "b"),
        (["a"], ["a", "b"]),
        ("a", ["a"]),
        ([None], ["a"]),
    ],
)
def test_one_id_with_two_values_is_refused_with_both(graph_of, left, right):
    """An id names one value for ever, and true is not 1."""
    error = conflict(graph_of({"a": left}), graph_of({"a": right}))
    assert error.details["id"] == "a"
    assert repr([value["data"] for value in error.details["values"]]) == repr([left, right])
    assert "'a'" in error.message
    assert "new id" in error.message


@pytest.mark.parametrize(
    "changed", [{"role": "other"}, {"name": "n"}, {"requires_grad": True}, {"producer": "op"}], ids=str
)
def test_a_leaf_with_another_field_is_refused(graph_of, changed):
    """All that a leaf says belongs to what its id names."""
    error = conflict(graph_of({"a": "x"}), graph_of({"a": {"data": "x", **changed}}))
    ((field, value),) = changed.items()
    assert error.details["values"][1][field] == value


def test_what_a_written_variable_states_of_requires_grad_is_no_conflict(graph_of):
    """It is derived, so a fragment cannot contradict it."""
    first = graph_of({"a": "1", "b": {"data": "2", "requires_grad": False}}, ("op1", "a", "b"))
    second = graph_of(
        {"b": outside("op1", "2", requires_grad=True), "c": {"data": "3", "requires_grad": True}},
        ("op2", "b", "c"),
    )
    assert not Graph.join(first, second).requires_grad("c")


def test_an_operation_with_other_content_is_refused_with_both(graph_of):
    """An operation's id names one call for ever."""
    error = conflict(
        graph_of({"a": "1", "b": "2"}, ("op", "a", "b", {"model": "one"})),
        graph_of({"a": "1", "b": "2"}, ("op", "a", "b", {"model": "two"})),
    )
    assert error.details["id"] == "op"
    assert [value["model"] for value in error.details["values"]] == ["one", "two"]


def test_arguments_of_an_operation_are_compared_as_json(graph_of):
    """A client in another language may write 1 where this one wrote 1.0."""
    left, right = (
        graph_of(
            {"a": "1", "b": "2"},
            ("op", "a", "b", {"arguments": {"temperature": given, "deep": [{"x": given}]}}),
        )
        for given in (1, 1.0)
    )
    assert Graph.join(left, right) == left
    wrong = graph_of({"a": "1", "b": "2"}, ("op", "a", "b", {"arguments": {"temperature": True, "deep": []}}))
    assert conflict(left, wrong).details["id"] == "op"


def test_a_part_with_other_content_is_refused_with_both(graph_of):
    """A part's id is its hash, so it cannot have two contents."""
    left, right = (graph_of({}, parts={"p": {"type": kind}}) for kind in ("image_url", "file"))
    assert conflict(left, right).details["values"] == [{"type": "image_url"}, {"type": "file"}]


def test_parts_of_all_fragments_are_kept(graph_of):
    """A part lies once in the whole graph."""
    image, file = {"type": "image_url"}, {"type": "file"}
    whole = Graph.join(graph_of({}, parts={"p": image}), graph_of({}, parts={"q": file, "p": image}))
    assert whole.parts == {"p": image, "q": file}


def test_a_second_writer_is_refused_with_both(graph_of):
    """Two operations may not write one variable, whatever its producer says."""
    error = conflict(
        graph_of({"a": "1", "b": {"data": "2", "producer": "op1"}}, ("op1", "a", "b")),
        graph_of({"a": "1", "b": {"data": "2", "producer": "op2"}}, ("op2", "a", "b")),
    )
    assert error.details["id"] == "b"


def test_a_cycle_across_fragments_is_refused_with_its_operations(graph_of):
    """Each fragment may be in order while the whole is not."""
    error = conflict(
        graph_of({"x": outside("op2"), "y": "text"}, ("op1", "x", "y")),
        graph_of({"y": outside("op1"), "x": "text"}, ("op2", "y", "x")),
    )
    assert error.details["values"] == ["op1", "op2"]
    assert "cycle" in error.message


def test_a_producer_that_no_fragment_holds_stays_outside(graph_of):
    """Joined fragments may still be a fragment of something larger."""
    whole = Graph.join(
        graph_of({"x": outside("gone"), "y": "text"}, ("op1", "x", "y")),
        graph_of({"y": outside("op1"), "z": "text"}, ("op2", "y", "z")),
    )
    assert whole.index.writers == {"y": 0, "z": 1}


def test_fragments_that_contradict_only_together_are_refused_by_path_and_without_values(graph_of):
    """The refusal names the field and the remedy; it quotes no prompt and speaks no pydantic."""
    error = conflict(
        graph_of({"x": outside("op1", CANARY), "a": "1"}),
        graph_of({"a": "1", "b": "2"}, ("op1", "a", "b")),
    )
    assert "variables/0/producer" in error.message
    assert CANARY not in error.model_dump_json()
    assert "pydantic" not in error.message


def test_joining_leaves_the_fragments_as_they_are(graph_of):
    """Composition makes a new graph."""
    first, second = graph_of({"a": "1"}), graph_of({"b": "1"})
    before = first.model_dump_json(), second.model_dump_json()
    Graph.join(first, second)
    assert (first.model_dump_json(), second.model_dump_json()) == before


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (False, 0.0, False),
        (None, None, True),
        (None, False, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [2, 1], False),
        ([[True]], [[1]], False),
        ("1", 1, False),
        ([], {}, False),
    ],
)
def test_values_are_compared_as_json_compares_them(left, right, same):
    """Numbers by value, objects without order, booleans only with booleans."""
    assert same_json(left, right) is same
    assert same_json(right, left) is same
