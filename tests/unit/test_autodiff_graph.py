"""What operations write and what is recorded of it, without a worker. Rows G and O of the reference."""

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtalk
from backtalk import (
    Variable,
    cognitive,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from backtalk.functional import add, deterministic_evaluator, exact_match_evaluator, split, sum  # noqa: A004
from backtalk.wire.codec import decode
from backtalk.wire.graph import Graph


def learning(data="abc", role="task"):
    return Variable(data, role=role, requires_grad=True)


def constant(data="def", role="format"):
    return Variable(data, role=role)


def graph_of(variable):
    return variable.graph().graph


def last(variable):
    """Return the operation that was recorded last."""
    return graph_of(variable).operations[-1]


def edges(node):
    return [(after and after.name(), number) for after, number in node.next_functions]


# ---- G1, G2, P2: nodes and edges


def test_g1_p2_a_node_has_one_edge_for_each_input():
    """The first leads to where gradients of the leaf collect, the second nowhere, and keeps its place."""
    x = learning()
    total = x + constant()
    assert total.grad_fn.name() == "AddBackward"
    assert edges(total.grad_fn) == [("AccumulateGrad", 0), (None, 0)]
    assert total.grad_fn.next_functions[0][0].leaf == x.read().value
    assert (total.role, total.is_leaf, total.requires_grad) == ("task and format", False, True)
    assert x.grad_fn is None


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda x: x + x, "AddBackward"),
        (lambda x: sum([x, x]), "SumBackward"),
        (lambda x: split(x)[0], "SplitBackward"),
        (lambda x: exact_match_evaluator(x, "abc")[0], "EvaluateBackward"),
    ],
    ids=["add", "sum", "split", "evaluate"],
)
def test_g1_a_node_is_named_after_its_operation(operation, name):
    """And says so when it is shown."""
    node = operation(learning()).grad_fn
    assert (node.name(), repr(node)) == (name, f"<{name}>")


def test_g1_edges_say_which_output_of_the_operation_before_was_read():
    """And a Variable that is read twice has two of them."""
    parts = split(learning("a b c"))
    total = sum([parts[2], constant(), parts[0], parts[2]])
    found = total.grad_fn.next_functions
    assert [number for _, number in found] == [2, 0, 0, 2]
    assert found[0][0] == found[2][0] == parts[1].grad_fn
    assert found[1][0] is None


def test_g1_edges_lead_all_the_way_back():
    """From the result to the leaf, through operations of all kinds."""
    x = learning("a b")
    text = split(x)[1] + constant()
    text.data = "edited"
    node, names = (text + constant()).grad_fn, []
    while node is not None:
        names.append(node.name())
        node = next((after for after, _ in node.next_functions), None)
    assert names == ["AddBackward", "EditBackward", "AddBackward", "SplitBackward", "AccumulateGrad"]


def test_g2_leaves_that_learn_collect_what_is_said_of_them():
    """All edges to one leaf lead to one node; nothing lies behind it."""
    x = learning()
    (first, _), (second, _) = (x + x).grad_fn.next_functions
    assert first == second
    assert len({first, second}) == 1
    assert (first.name(), first.next_functions, first.outputs) == ("AccumulateGrad", (), ())


def test_g1_nodes_are_equal_when_they_are_one_operation():
    """Also as keys; two operations of the same kind are two."""
    x = learning()
    total = x + x
    assert total.grad_fn == total.grad_fn
    assert len({total.grad_fn, total.grad_fn, (x + x).grad_fn}) == 2
    assert total.grad_fn != "AddBackward"


# ---- G3, P3: where nothing is recorded


def test_g3_the_result_wants_a_gradient_if_anything_does():
    """And has a node then; otherwise it is a leaf."""
    for x, y, wanted in (
        (learning(), learning(), True),
        (constant(), learning(), True),
        (constant(), constant(), False),
    ):
        total = x + y
        assert (total.requires_grad, total.grad_fn is not None, total.is_leaf) == (wanted, wanted, not wanted)


def test_g3_p3_without_gradients_the_value_is_the_same():
    """But there are no edges, no gradient is required, and it is a leaf."""
    x, y = learning("a b"), constant()
    with no_grad():
        made = [x + y, sum([x, y]), *split(x), *exact_match_evaluator(x, "a b")]
    recorded = [x + y, sum([x, y]), *split(x), *exact_match_evaluator(x, "a b")]
    assert [one.data for one in made] == [one.data for one in recorded]
    assert [one.role for one in made] == [one.role for one in recorded]
    assert {(one.requires_grad, one.grad_fn, one.is_leaf) for one in made} == {(False, None, True)}
    assert all(one.requires_grad and one.grad_fn and not one.is_leaf for one in recorded)


def test_g3_grad_mode_comes_back_also_after_an_error():
    """Blocks may stand within each other, and one object may be entered again."""
    assert is_grad_enabled()
    with no_grad() as guard:
        with guard, enable_grad():
            assert is_grad_enabled()
            with set_grad_enabled(False):
                assert not is_grad_enabled()
            assert is_grad_enabled()
        assert not is_grad_enabled()
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_g3_a_decorated_function_records_nothing():
    """It keeps its name and its words, takes its arguments, and may call itself."""

    @no_grad()
    def countdown(count, *, step=1):
        """Count."""
        assert not is_grad_enabled()
        return count if count <= 0 else countdown(count - step, step=step)

    assert (countdown(4, step=2), countdown.__name__, countdown.__doc__) == (0, "countdown", "Count.")
    assert is_grad_enabled()


async def test_g3_a_decorated_coroutine_function_records_nothing_while_it_runs():
    """From its first step to its last, whatever others do in between."""

    @no_grad()
    async def unrecorded():
        before = is_grad_enabled()
        await asyncio.sleep(0)
        return before, is_grad_enabled()

    waiting = unrecorded()
    assert is_grad_enabled()
    assert asyncio.iscoroutinefunction(unrecorded)
    assert await waiting == (False, False)
    assert is_grad_enabled()


def test_g3_a_decorated_generator_records_nothing_or_is_refused():
    """That its steps are recorded all the same would be found out by nobody."""
    try:

        @no_grad()
        def parts():
            yield is_grad_enabled()
            yield is_grad_enabled()

    except TypeError:
        return
    assert list(parts()) == [False, False]
    assert is_grad_enabled()


def test_g3_the_decorator_works_without_brackets_or_says_that_it_needs_them():
    """`@no_grad` is what many write."""
    try:
        decorated = no_grad(is_grad_enabled)
    except TypeError as error:
        assert "no_grad()" in str(error)  # noqa: PT017
    else:
        assert decorated() is False


def test_g3_grad_mode_is_that_of_the_thread():
    """A new thread records, and what it does changes nothing for others."""
    x, found = learning(), {}
    entered, checked = threading.Event(), threading.Event()

    def other():
        found["at first"] = is_grad_enabled()
        with no_grad():
            entered.set()
            checked.wait(5)
            found["within"] = (x + x).requires_grad

    with no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(5)
    found["here"] = (x + x).requires_grad
    checked.set()
    thread.join()
    assert found == {"at first": True, "within": False, "here": True}


def test_g3_one_guard_serves_several_threads():
    """An object that is kept and entered by all of them belongs to none."""
    guard, both = no_grad(), threading.Barrier(2)

    def within(first):
        with guard:
            both.wait(5)
            if not first:
                time.sleep(0.05)
        return is_grad_enabled()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(within, [True, False])) == [True, True]


async def test_g3_grad_mode_is_that_of_the_task():
    """A task begins as the one that made it, and goes on so."""
    x = learning()
    left = asyncio.Event()

    async def added():
        await left.wait()
        return (x + x).requires_grad

    with no_grad():
        inside = asyncio.create_task(added())
        await asyncio.sleep(0)
        assert not is_grad_enabled()
    outside = asyncio.create_task(added())
    left.set()
    assert (await inside, await outside) == (False, True)


async def test_g3_a_module_that_runs_in_a_thread_keeps_the_mode_of_its_caller():
    """The awaitable form of a module without one of its own runs elsewhere, and records as it would here."""

    class Doubled(cognitive.Module):
        def forward(self, x):
            return x + x

    with no_grad():
        unrecorded = await Doubled().acall(learning())
    recorded = await Doubled().acall(learning())
    assert (unrecorded.requires_grad, recorded.requires_grad) == (False, True)


# ---- G4: several outputs


def test_g4_all_outputs_of_an_operation_share_its_node():
    """They differ in their number alone."""
    for made in (split(learning("a b c")), exact_match_evaluator(learning(), "abc")):
        assert [one.output_nr for one in made] == list(range(len(made)))
        assert len({one.grad_fn for one in made}) == 1
        assert [one.id for one in made] == list(made[0].grad_fn.outputs)


def test_g4_an_edited_output_has_left_its_operation():
    """It is the only output of the edit, and the others are what they were."""
    first, second = split(learning("a b"))
    second.data = "c"
    assert (first.output_nr, second.output_nr) == (0, 0)
    assert edges(second.grad_fn) == [("SplitBackward", 1)]


# ---- G5, G7: diamonds, and what a backward pass refuses before it asks anybody


def test_g5_a_diamond_is_recorded_with_both_its_ways():
    """Five operations, the leaf read by the first and by the last, and recorded once."""
    a = learning("a", role="a")
    e = d = a
    for role in "bcd":
        d = d + constant(role, role=role)
    e = d + a
    graph = graph_of(e)
    assert [one.op for one in graph.operations] == ["add"] * 4
    assert [a.id in one.inputs for one in graph.operations] == [True, False, False, True]
    assert [one.id for one in graph.variables].count(a.id) == 1
    assert edges(e.grad_fn) == [("AddBackward", 0), ("AccumulateGrad", 0)]


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({}, RuntimeError, r"backward\(\) needs a gradient here: a Variable that says what should change"),
        ({"gradient": "Shorter."}, TypeError, "a gradient is a Variable that holds a text, not str"),
        ({"gradient": Variable(5)}, TypeError, "a gradient is a text, or a list of texts"),
        ({"gradient": Variable(["a", None])}, (TypeError, ValueError), "text|shape"),
        ({"gradient": Variable(["a", "b"])}, ValueError, "a list of 2.* a single text"),
        ({"gradient": Variable("a"), "create_graph": True}, NotImplementedError, "leave it False"),
        ({"gradient": Variable("a"), "inputs": []}, RuntimeError, "none of the inputs"),
        ({"gradient": Variable("a"), "inputs": constant()}, RuntimeError, "none of the inputs requires"),
        ({"gradient": Variable("a"), "inputs": learning()}, RuntimeError, "or leads to this Variable"),
        ({"gradient": Variable("a"), "inputs": ["abc"]}, TypeError, "inputs.*Variable"),
    ],
    ids=["none", "text", "number", "gap", "list", "create_graph", "nothing", "constant", "stranger", "texts"],
)
def test_g6_what_a_backward_pass_cannot_do_is_told_before_anything_is_sent(arguments, error, told):
    """By type, in words that name the remedy; no connection is made."""
    x, before = learning(), set(threading.enumerate())
    total = x + constant()
    with pytest.raises(error, match=told):
        total.backward(**arguments)
    assert x.grad == []
    assert set(threading.enumerate()) <= before


def test_g6_inputs_must_be_leaves():
    """Of what operations wrote, retain_grad() keeps gradients."""
    x = learning()
    middle = x + constant()
    total = middle + constant()
    with pytest.raises(RuntimeError, match=r"inputs must be leaves; call retain_grad\(\)"):
        total.backward(Variable("Shorter."), inputs=[x, middle])


def test_g6_several_variables_take_one_gradient_each():
    """Neither more nor fewer, and at least one."""
    x = learning()
    ends = [x + constant(), x + x]
    for variables, gradients in ((ends, [Variable("a")]), ([], []), ([ends[0]], [])):
        with pytest.raises(ValueError, match="give one for each"):
            backtalk.backward(variables, gradients)


def test_g6_several_variables_may_come_from_a_generator():
    """They are counted before anything is sent, as those of a list are."""
    x = learning()
    ends = [x + constant(), x + x]
    with pytest.raises(ValueError, match="2 Variables and 1 gradients; give one for each"):
        backtalk.backward((end for end in ends), (said for said in [Variable("a")]))
    with pytest.raises(ValueError, match="1 Variables and 2 gradients; give one for each"):
        backtalk.backward(ends[0], [Variable("a"), Variable("b")])


@pytest.mark.parametrize("given", ["text", ["text"], None, [None]], ids=str)
def test_g6_only_variables_can_be_gone_back_from(given):
    """The error names the type and not an attribute that it lacks."""
    with pytest.raises(TypeError, match="Variable"):
        backtalk.backward(given, [Variable("a")])


async def test_g6_the_awaitable_form_refuses_the_same():
    """Before anything is awaited that could not be done."""
    total = learning() + constant()
    with pytest.raises(RuntimeError, match="needs a gradient here"):
        await total.abackward()
    with pytest.raises(NotImplementedError):
        await backtalk.abackward([total], [Variable("a")], create_graph=True)


# ---- O1, O2, P7: add


@pytest.mark.parametrize(
    ("x", "y", "total"),
    [
        ("abc", "def", "abcdef"),
        (1, 2, 3),
        (1, 2.5, 3.5),
        ("a", 1, "a1"),
        (2.5, "b", "2.5b"),
        ("is it? ", True, "is it? true"),
        ([1, 2, 3], [4, 5, 6], [5, 7, 9]),
        ([1, 2], [0.5, 1], [1.5, 3.0]),
        (["a", "b"], ["c", "d"], ["ac", "bd"]),
        (["a", "b"], [1, 2], ["a1", "b2"]),
        (["a", None], ["b", "c"], ["ab", None]),
        ([None, 1], [2, None], [None, None]),
    ],
    ids=str,
)
def test_o1_add(x, y, total):
    """Texts one behind the other, numbers summed, a number beside a text as text; lists item by item."""
    assert add(Variable(x), Variable(y)).data == (Variable(x) + Variable(y)).data == total


def test_o1_the_sum_is_for_what_both_are_for():
    """The roles are joined."""
    assert (constant(role="task") + constant(role="format")).role == "task and format"


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (["a", "b"], "c", "a list of 2, a scalar"),
        (1, [1, 2, 3], "a scalar, a list of 3"),
        (["a"], ["b", "c"], "a list of 1, a list of 2"),
    ],
    ids=str,
)
def test_o2_shapes_have_to_agree(x, y, told):
    """The message says both."""
    with pytest.raises(
        ValueError, match=f"shapes differ: {told}; give only scalars, or only lists of one length"
    ):
        add(learning(x), constant(y))


@pytest.mark.parametrize("other", ["text", 1, None, ["a"]], ids=str)
def test_o2_only_variables_are_added(other):
    """In either place."""
    for x, y in ((learning(), other), (other, learning())):
        with pytest.raises(TypeError, match="only Variables can be added to each other; wrap the"):
            add(x, y)


def test_o1_in_place_it_is_the_same_operation():
    """`+=` gives the name to what the operation wrote; the Variable that had it is unchanged."""
    x = first = learning()
    x += constant()
    x += x
    assert (x.data, first.data) == ("abcdefabcdef", "abc")
    assert [one.op for one in graph_of(x).operations] == ["add", "add"]
    assert last(x).inputs[0] == last(x).inputs[1]


# ---- O3: sum


@pytest.mark.parametrize(
    ("data", "total"),
    [
        (["one", "two"], "<ITEM>one</ITEM><ITEM>two</ITEM>"),
        (["alone"], "<ITEM>alone</ITEM>"),
        ([1, 2, 3.5], 6.5),
        ([1], 1),
        (["a", 1], "<ITEM>a</ITEM><ITEM>1</ITEM>"),
        ([[1, 2], [3, 4], [5, 6]], [9, 12]),
        ([["a", "b"], ["c", "d"]], ["<ITEM>a</ITEM><ITEM>c</ITEM>", "<ITEM>b</ITEM><ITEM>d</ITEM>"]),
        ([["a", None], ["c", "d"]], ["<ITEM>a</ITEM><ITEM>c</ITEM>", None]),
    ],
    ids=str,
)
def test_o3_sum(data, total):
    """Texts within ITEM tags, numbers summed; lists item by item."""
    assert sum([Variable(one) for one in data]).data == total


def test_o3_the_sum_is_for_what_all_are_for():
    """The roles are joined, of any number."""
    assert sum([constant(role=role) for role in "abc"]).role == "a and b and c"


def test_o3_sum_takes_whatever_can_be_gone_through():
    """A generator as well as a list: each Variable is counted and recorded once."""
    x, y = learning(1), learning(2)
    assert sum((x, y)).data == 3
    total = sum(variable for variable in (x, y))
    assert (total.data, total.requires_grad) == (3, True)
    assert last(total).inputs == (x.id, y.id)


def test_o3_sum_of_nothing_is_refused():
    """Also of what is no Variable, and of shapes that differ."""
    with pytest.raises(ValueError, match="sum of nothing; give at least one Variable"):
        sum([])
    with pytest.raises(TypeError, match="only Variables can be summed; wrap the str in"):
        sum([learning(), "text"])
    with pytest.raises(ValueError, match="shapes differ"):
        sum([learning(["a", "b"]), constant()])


# ---- O4, O5, P6: split


@pytest.mark.parametrize(
    ("text", "arguments", "parts"),
    [
        ("a b  c", (), ["a", "b", "c"]),
        ("a,b,,c", (",",), ["a", "b", "", "c"]),
        ("a b c", (None, 1), ["a", "b c"]),
        ("a--b--c", ("--", 1), ["a", "b--c"]),
        ("alone", (",",), ["alone"]),
        ("a b", (None, 0), ["a b"]),
        ("", (), [""]),
        (["a b", "c"], (), [["a", "c"], ["b", ""]]),
        (["a", "b c d"], (" ", 1), [["a", "b"], ["", "c d"]]),
        (["a b", None], (), [["a", None], ["b", None]]),
    ],
    ids=str,
)
def test_o4_p6_split(text, arguments, parts):
    """As str.split does, but there is always one part; items of fewer parts have empty ones."""
    assert [part.data for part in split(Variable(text, role="list"), *arguments)] == parts


def test_o4_the_parts_are_numbered_in_their_roles():
    """From 0, as they are in the tuple."""
    made = split(constant("a b", role="list"))
    assert isinstance(made, tuple)
    assert [part.role for part in made] == ["split part 0 of list", "split part 1 of list"]


def test_o5_separator_and_limit_may_be_variables():
    """No gradient leads to them, though they may want one."""
    parts = split(learning("a,b,c"), learning(",", role="separator"), Variable(1))
    assert [part.data for part in parts] == ["a", "b,c"]
    assert edges(parts[0].grad_fn) == [("AccumulateGrad", 0)]
    assert (last(parts[0]).sep, last(parts[0]).maxsplit) == (",", 1)
    assert not split(constant("a,b"), learning(","))[0].requires_grad


def test_o4_only_texts_can_be_split():
    """Numbers, and what is no Variable, are refused; so is a separator that separates nothing."""
    for data in (5, [1, 2]):
        with pytest.raises(TypeError, match="only texts can be split; this Variable holds numbers"):
            split(learning(data))
    with pytest.raises(TypeError, match="only Variables can be split; wrap the str in"):
        split("a b")
    with pytest.raises(ValueError, match="empty separator"):
        split(learning(), "")
    for wrong in ((5,), (None, "one"), (Variable(["a"]),), (None, Variable(["a"]))):
        with pytest.raises(TypeError):
            split(learning(), *wrong)


# ---- what is recorded


def test_add_and_sum_are_recorded_with_their_inputs_in_order():
    """By the ids of the values that were read."""
    x, y = learning(), constant()
    for total, op in ((add(y, x), "add"), (sum([y, x]), "sum")):
        recorded = last(total)
        assert (recorded.op, recorded.inputs, recorded.outputs) == (op, (y.id, x.id), (total.id,))


def test_split_is_recorded_with_what_it_was_told():
    """Separator and limit only where they were given."""
    x = learning("a b c")
    told, silent = split(x, " ", 1), split(x)
    assert last(told[0]).outputs == tuple(part.id for part in told)
    assert last(told[0]).model_dump(exclude={"id", "inputs", "outputs"}) == {
        "op": "split",
        "sep": " ",
        "maxsplit": 1,
    }
    assert last(silent[0]).model_dump(exclude={"id", "inputs", "outputs"}) == {"op": "split"}


def test_an_edit_is_recorded_between_what_was_and_what_is():
    """The value before stays in the graph, so that a model can be shown both."""
    total = learning() + constant()
    before = total.id
    total.data = "edited"
    graph = graph_of(total)
    assert [one.op for one in graph.operations] == ["add", "edit"]
    assert (graph.index.variables[before].data, graph.index.variables[total.id].data) == ("abcdef", "edited")
    assert graph.edits == {before: [total.id]}


def test_the_graph_of_a_leaf_is_the_leaf_alone():
    """Nothing led to it."""
    x = learning()
    assert (graph_of(x).operations, [one.id for one in graph_of(x).variables]) == ((), [x.id])


def test_a_graph_holds_only_what_led_to_the_variable():
    """Not what else was computed of the same leaves."""
    x = learning()
    total, other = x + constant(), x + x
    assert [one.outputs for one in graph_of(total).operations] == [(total.id,)]
    assert other.id not in graph_of(total).index.variables


def test_operations_stand_in_the_order_in_which_they_were_begun():
    """Whatever order they are read in."""
    x = learning()
    made = [x + constant(str(at)) for at in range(5)]
    total = sum(made[::-1])
    assert [one.outputs[0] for one in graph_of(total).operations] == [*(one.id for one in made), total.id]


def test_each_id_of_a_leaf_that_changed_stands_in_the_graph_under_one_name():
    """So that a reader sees that they were one Variable."""
    x = learning("first")
    one = x + constant()
    x.data = "second"
    total = one + x
    values = [value for value in graph_of(total).variables if (value.name or value.id) == x.name]
    assert [value.data for value in values] == ["first", "second"]


def test_what_the_wire_derives_is_what_the_variables_say():
    """requires_grad, batches and writers follow from the tape alone."""
    x, y = learning(["a b", "c"]), constant(["d", "e"])
    parts = split(x)
    total = sum([parts[0], y]) + parts[1]
    graph = decode(graph_of(total).model_dump_json().encode(), Graph)
    assert graph == graph_of(total)
    for variable in (x, y, *parts, total):
        assert graph.requires_grad(variable.id) == variable.requires_grad
    assert set(graph.index.batches) == {2}


PROGRAMS = st.lists(
    st.tuples(
        st.sampled_from(["add", "sum", "split", "edit", "leaf"]), st.integers(0, 99), st.integers(0, 99)
    ),
    max_size=15,
)


@given(PROGRAMS, st.booleans())
def test_any_program_of_steps_makes_a_graph_that_says_what_it_did(program, batch):
    """The graph is consistent, survives the wire, and holds the data of every Variable that led to the last one."""

    def leaf(at):
        return Variable([f"{at} x", f"{at}"] if batch else f"{at} x", role=str(at), requires_grad=at % 2 == 0)

    made = [leaf(0)]
    for op, one, two in program:
        x, y = made[one % len(made)], made[two % len(made)]
        if op == "edit":
            x.data = y.data
        elif op == "add":
            made.append(x + y)
        elif op == "sum":
            made.append(sum([x, y, x]))
        elif op == "split":
            made += split(x)
        else:
            made.append(leaf(one))
    whole = sum(made)
    graph = decode(graph_of(whole).model_dump_json().encode(), Graph)
    assert graph.index.variables[whole.id].data == whole.read().value.data
    for variable in made:
        if whole.requires_grad:
            assert graph.index.variables[variable.id] == variable.read().value
    assert whole.requires_grad == any(one.requires_grad for one in made)


# ---- P20: long chains


def test_p20_a_chain_of_five_thousand_operations_is_built_drawn_up_and_let_go():
    """No recursion, and seconds at most; the way back is found from its end."""
    began = time.monotonic()
    x = total = learning("")
    for _ in range(5000):
        total = total + constant("a")
    graph = graph_of(total)
    assert (len(graph.operations), len(total.data)) == (5000, 5000)
    assert edges(total.grad_fn) == [("AddBackward", 0), (None, 0)]
    assert graph.operations[0].inputs[0] == x.id
    del total, graph
    gc.collect()
    assert time.monotonic() - began < 5


def test_p20_a_chain_of_five_thousand_edits_is_no_other():
    """An edit is an operation."""
    total = learning("") + constant("")
    for at in range(5000):
        total.data = str(at)
    assert len(graph_of(total).operations) == 5001


def test_p20_a_long_chain_can_be_walked_edge_by_edge():
    """Past the depth at which Python stops recursing."""
    total = learning("")
    for _ in range(1500):
        total = total + constant("a")
    node, count = total.grad_fn, 0
    while node is not None:
        count += 1
        node = node.next_functions[0][0] if node.next_functions else None
    assert count == 1501


def test_p20_all_nodes_of_a_walk_share_what_they_are_looked_up_in():
    """It is made once, when the walk begins, and not again for each edge."""
    total = learning("")
    for _ in range(1500):
        total = total + constant("a")
    node = total.grad_fn
    ancestry, count = node.ancestry, 0
    while node.next_functions:
        (node, _), *_ = node.next_functions
        assert node.ancestry is ancestry
        count += 1
    assert (count, node.name()) == (1500, "AccumulateGrad")


def test_a_graph_of_many_diamonds_is_no_larger_than_it_is():
    """Forty doublings have 2^40 ways through them, and forty operations."""

    @backtalk.function("Adds two numbers.")
    def plus(x: int, y: int) -> int:
        return x + y

    total = learning(1)
    for _ in range(40):
        total = plus(total, total)
    assert (total.data, len(graph_of(total).operations)) == (2**40, 40)


def test_p20_what_a_long_chain_is_for_can_still_be_sent():
    """A counter that 5,000 numbers were added to: its roles do not outgrow a message, which takes 64 MiB."""
    total = learning(0, role="counter")
    for _ in range(5000):
        total = total + constant(1, role="increment")
    assert len(total.role) < 2000
    assert len(graph_of(total).model_dump_json()) < 64 * 1024 * 1024


# ---- the tape


@pytest.fixture
def evaluated():
    """Return the explanation of a batch that was split, put together, edited and measured."""
    first, second = split(learning(["a b", "c d"], role="question"))
    answer = second + first
    answer.data = [*answer.data[:1], "DC"]
    _, explanation = exact_match_evaluator(answer, ["ba", "dc"])
    return explanation


def test_a_tape_is_saved_as_json_that_both_workers_read(evaluated, tmp_path):
    """Graph and gradients, of which there are none yet."""
    path = evaluated.graph().save(tmp_path / "tape.json")
    saved = json.loads(path.read_text("utf-8"))
    assert set(saved) == {"graph", "gradients"}
    assert Graph.model_validate(saved["graph"]) == graph_of(evaluated)
    assert saved["gradients"] == {}


def test_a_tape_is_saved_as_a_drawing(evaluated, tmp_path):
    """The suffix names the format; a text will do as a path; other suffixes are refused by name."""
    drawn = evaluated.graph().save(str(tmp_path / "tape.dot"))
    assert drawn == tmp_path / "tape.dot"
    assert drawn.read_text("utf-8").startswith("digraph")
    page = evaluated.graph().save(tmp_path / "tape.html").read_text("utf-8")
    assert "question" in page
    with pytest.raises(ValueError, match=r"tape\.pdf.*\.svg.*\.html"):
        evaluated.graph().save(tmp_path / "tape.pdf")


def test_a_tape_refuses_other_suffixes_with_all_that_it_takes(evaluated, tmp_path):
    """JSON is one of them."""
    with pytest.raises(ValueError, match=r"\.json"):
        evaluated.graph().save(tmp_path / "tape.pdf")


def test_a_notebook_draws_a_tape_by_itself(evaluated):
    """With what it has: no network, nothing of the page around it."""
    shown = evaluated.graph()._repr_html_()
    assert "question" in shown
    assert "http://" not in shown.replace("http://www.w3.org", "")
    assert "<html" not in shown


def test_the_tape_of_a_leaf_can_be_shown_and_saved(tmp_path):
    """One Variable is a graph as well."""
    tape = learning().graph()
    assert "task" in tape._repr_html_()
    assert tape.save(tmp_path / "leaf.json").exists()


# ---- what is recorded of measuring, as far as it concerns the graph


def test_what_a_program_measures_is_one_operation_with_two_outputs():
    """Score and explanation, of a batch and its failed items."""
    x = learning(["a", None, "c"], role="letter")
    score, explanation = deterministic_evaluator(x, ["a", "b", "d"], lambda p, t: int(p == t), "sameness")
    assert (score.data, score.requires_grad, explanation.requires_grad) == (1, True, True)
    assert last(score).outputs == (score.id, explanation.id)
    assert last(score).scores == (1, None, 0)
