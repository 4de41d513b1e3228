"""Variables: what they hold, what they refuse, and that an id never means two things. Rows V of the reference."""

import copy
import json
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtalk
from backtalk import Parameter, Variable, autodiff, client, no_grad
from backtalk.autodiff import Gradient
from backtalk.functional import split
from backtalk.wire.codec import validate
from backtalk.wire.feedback import Entry
from backtalk.wire.graph import Variable as Value

TEXTS = st.text(max_size=60)
INTS = st.integers(-(2**53), 2**53)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = TEXTS | INTS | FLOATS | st.booleans()


def lists_of(items):
    return st.lists(items | st.none(), min_size=1, max_size=9)


BATCHES = lists_of(TEXTS) | lists_of(INTS) | lists_of(INTS | FLOATS)
DATA = SCALARS | BATCHES | BATCHES.map(tuple)


@pytest.fixture
def leaf():
    return Variable("Be brief.", role="prompt", requires_grad=True)


@pytest.fixture
def written(leaf):
    """Return what an operation wrote: `leaf` and a text behind it."""
    return leaf + Variable(" Be kind.", role="tone")


def held(variable):
    """Return all that an id stands for, in a form that can be compared."""
    return variable.read().value.model_dump_json()


# ---- V1 to V3, V16: what a Variable holds


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ("text", "text"),
        ("", ""),
        (3, 3),
        (2.5, 2.5),
        (True, True),
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ([1, 2], [1, 2]),
        ((1, 2.5), [1.0, 2.5]),
        ([1, None, 2.5], [1.0, None, 2.5]),
        (["a", None], ["a", None]),
    ],
)
def test_v1_data_is_a_scalar_or_a_list_of_one_kind(given, held):
    """A tuple becomes a list, ints beside floats become floats, and None keeps the place of a failed item."""
    data = Variable(given).data
    assert (data, list(map(type, data if isinstance(data, list) else [data]))) == (
        held,
        list(map(type, held if isinstance(held, list) else [held])),
    )


def test_v1_data_role_and_requires_grad_have_defaults():
    """Nothing need be given; what is given may be given by position."""
    assert (Variable().data, Variable().role, Variable().requires_grad) == ("", "", False)
    told = Variable("text", "task", True)  # noqa: FBT003
    assert (told.data, told.role, told.requires_grad) == ("text", "task", True)
    assert Parameter("text").requires_grad
    assert not Parameter("text", requires_grad=False).requires_grad


def test_v1_a_role_is_a_text():
    """At once and later."""
    with pytest.raises(TypeError, match="role must be a str that says what the Variable is for; it is int"):
        Variable("text", role=5)


def test_v1_a_role_that_is_assigned_is_a_text_as_well(leaf):
    """What no message can hold is refused where it is given."""
    with pytest.raises(TypeError, match="role must be a str"):
        leaf.role = 5
    assert leaf.role == "prompt"


@pytest.mark.parametrize("given", [{"a": 1}, b"bytes", object(), {1, 2}, 1j])
def test_v2_other_types_are_refused(given):
    """The message says what data may be, and what it was."""
    with pytest.raises(
        TypeError, match=f"one str, int or float, or a list or tuple of these; it is {type(given).__name__}"
    ):
        Variable(given)


def test_v16_none_is_no_data():
    """Only within a list, where it marks an item that failed."""
    with pytest.raises(TypeError, match="it is NoneType"):
        Variable(None)


@pytest.mark.parametrize("given", [["a", 1], [1, "a"], (2.5, "a", None), [["a"]], [b"a"], [{"a": 1}]])
def test_v3_a_list_holds_texts_only_or_numbers_only(given):
    """The message names the kinds that were found."""
    with pytest.raises(TypeError, match="must hold texts only or numbers only; this one holds"):
        Variable(given)


@pytest.mark.parametrize("given", [[], ()])
def test_an_empty_list_is_no_batch(given):
    """A batch has at least one item; nothing could be said of it."""
    with pytest.raises(ValueError, match="empty list; a batch has at least one item"):
        Variable(given)


@pytest.mark.parametrize("given", [float("nan"), float("inf"), [1.0, float("-inf")], [1, float("nan")]])
def test_numbers_that_json_does_not_have_are_refused(given):
    """Where they are given, and not when they are sent."""
    with pytest.raises(ValueError, match="no message can hold; use a finite number or a text"):
        Variable(given)


def test_an_int_that_no_float_holds_is_refused_like_an_infinite_one():
    """Ints beside floats become floats; one that is too large for that is told as what it is."""
    with pytest.raises(ValueError, match="no message can hold"):
        Variable([10**400, 1.5])


def test_a_text_that_no_message_can_hold_is_refused():
    """Half of a surrogate pair has no UTF-8: told where it is given, and not when it is sent."""
    with pytest.raises(ValueError, match="no message can hold"):
        Variable("half of an emoji: \ud83d")


def test_a_name_is_a_text():
    """In the words of the other refusals, not those of a library underneath."""
    with pytest.raises(TypeError, match="name must be a str"):
        Variable("text", name=5)


@given(DATA)
def test_data_comes_back_as_it_was_given(data):
    """Equal, as a list where it was a tuple, and the same when read again."""
    variable = Variable(data)
    expected = list(data) if isinstance(data, tuple) else data
    assert variable.data == variable.data == expected
    assert isinstance(variable.data, bool) == isinstance(data, bool)


@given(DATA, TEXTS, st.booleans())
def test_what_is_recorded_of_a_variable_survives_the_wire(data, role, wanted):
    """Its value is a wire Variable: through JSON and back it is the same."""
    value = Variable(data, role, wanted).read().value
    assert validate(json.loads(value.model_dump_json()), Value) == value


@given(lists_of(TEXTS))
def test_changing_a_list_that_was_given_or_read_changes_no_variable(data):
    """Data is copied on its way in and on its way out."""
    given, kept = list(data), list(data)
    variable = Variable(given)
    given.append("more")
    variable.data.append("more")
    assert variable.data == kept


# ---- V4 to V6: gradients


def test_v4_grad_is_an_ordered_list_of_all_that_was_said(leaf):
    """Nothing is merged or dropped, not even the same thing said twice."""
    assert leaf.grad == []
    said = [Variable(text, role="feedback") for text in ("Shorter.", "Louder.", "Shorter.")]
    for one in said:
        leaf.append_grad(one)
    assert leaf.grad == said
    assert [one.data for one in leaf.grad] == ["Shorter.", "Louder.", "Shorter."]


def test_v4_the_list_is_the_variables_own(leaf):
    """It can be appended to and cleared, and a list that is assigned is taken itself."""
    own = [Variable("Shorter.")]
    leaf.grad = own
    assert leaf.grad is own
    leaf.grad.append(Variable("Louder."))
    assert len(leaf.grad) == 2
    leaf.grad.clear()
    assert leaf.grad == own == []


def test_v4_a_variable_that_wants_no_gradient_has_an_empty_list():
    """Nothing is said of it, and nothing is refused."""
    assert Variable("text").grad == []


def test_v5_what_an_operation_wrote_keeps_no_gradients(written):
    """Reading, assigning and appending are refused alike, and the message says what to do."""
    for use in (
        lambda: written.grad,
        lambda: setattr(written, "grad", []),
        lambda: written.append_grad(Variable("x")),
    ):
        with pytest.raises(RuntimeError, match=r"call retain_grad\(\) on it before backward\(\)"):
            use()


def test_v5_unless_it_was_told_to(written):
    """After retain_grad() it has a list like a leaf."""
    written.retain_grad()
    assert written.retains_grad
    assert written.grad == []
    written.append_grad(Variable("Shorter."))
    written.grad = [*written.grad, Variable("Louder.")]
    assert [one.data for one in written.grad] == ["Shorter.", "Louder."]


def test_v5_retain_grad_is_refused_on_a_leaf(leaf):
    """It keeps them anyway."""
    with pytest.raises(RuntimeError, match="a leaf keeps its gradients anyway"):
        leaf.retain_grad()
    assert not leaf.retains_grad


@pytest.mark.parametrize(
    ("given", "named"),
    [("text", "str"), (None, "NoneType"), ((), "tuple"), (["text"], "str"), ([1], "int")],
)
def test_v6_grad_takes_a_list_of_variables(leaf, given, named):
    """The message names the type that was found, and what was there before stays."""
    leaf.append_grad(Variable("Shorter."))
    with pytest.raises(TypeError, match=f"grad must be a list of Variables; found {named}"):
        leaf.grad = given
    assert len(leaf.grad) == 1


def test_v6_append_grad_takes_a_variable(leaf):
    """A text alone is none."""
    with pytest.raises(TypeError, match="a gradient is a Variable, not str"):
        leaf.append_grad("Shorter.")


# ---- V7 to V9: where it comes from


def test_v7_grad_fn_cannot_be_set(leaf, written):
    """It follows from what was recorded."""
    for one in (leaf, written):
        before = one.grad_fn
        with pytest.raises(AttributeError, match="cannot be set; it follows from what was recorded"):
            one.grad_fn = None
        assert one.grad_fn == before


def test_v7_where_no_gradient_is_required_that_is_another_error():
    """As in the reference: RuntimeError."""
    with pytest.raises(RuntimeError, match="no gradient is required"):
        Variable("text").grad_fn = None


def test_v8_output_nr_is_a_number_that_cannot_be_set(leaf, written):
    """From 0; the reference refuses wrong values, here it follows from what was recorded and takes none."""
    parts = split(written)
    assert [one.output_nr for one in (leaf, written, *parts)] == [0, 0, 0, 1, 2, 3]
    with pytest.raises(AttributeError):
        parts[1].output_nr = 0
    assert parts[1].output_nr == 1


def test_v9_backward_needs_something_to_go_back_through(leaf):
    """From a leaf, from what was computed of nothing that learns, and from what was computed in no_grad()."""
    constant = Variable("a") + Variable("b")
    with no_grad():
        unrecorded = leaf + leaf
    for one in (leaf, constant, unrecorded):
        with pytest.raises(
            RuntimeError, match=r"no grad_fn.*with requires_grad=True, outside of no_grad\(\)"
        ):
            one.backward(Variable("Shorter."))
        assert one.is_leaf


async def test_v9_also_where_it_is_awaited(leaf):
    """The awaitable twin refuses the same."""
    with pytest.raises(RuntimeError, match="no grad_fn"):
        await leaf.abackward(Variable("Shorter."))


# ---- V10: adding


@pytest.mark.parametrize("other", ["text", 1, 2.5, None, ["a"]])
def test_v10_only_variables_are_added(leaf, other):
    """From either side and in place; the message says to wrap the other one."""

    def in_place():
        one = leaf
        one += other

    named = type(other).__name__
    for use in (lambda: leaf + other, lambda: other + leaf, in_place):
        with pytest.raises(
            TypeError, match=rf"only Variables can be added to each other; wrap the {named} in Variable\(…\)"
        ):
            use()


def test_v10_adding_in_place_leaves_the_first_variable_alone(leaf):
    """The name then stands for another Variable, which an operation wrote."""
    one = leaf
    one += Variable("!", role="mark")
    assert (leaf.data, one.data, one.is_leaf) == ("Be brief.", "Be brief.!", False)


# ---- V11, V12: copying


@pytest.mark.parametrize("copied_by", [copy.deepcopy, copy.copy])
def test_v11_a_copy_of_a_leaf_has_its_own_id(leaf, copied_by):
    """It keeps data, role, requires_grad and gradients, and changes by itself."""
    leaf.append_grad(Variable("Shorter."))
    copied = copied_by(leaf)
    assert (copied.data, copied.role, copied.requires_grad) == ("Be brief.", "prompt", True)
    assert (copied.grad, copied.is_leaf) == (leaf.grad, True)
    assert copied.id != leaf.id
    assert copied.name == copied.id
    copied.data = "Be long."
    copied.grad.clear()
    assert (leaf.data, len(leaf.grad)) == ("Be brief.", 1)


def test_v11_a_copy_is_of_the_same_class():
    """A Parameter stays one, and a Gradient keeps where it comes from."""
    entry = Entry(
        text="Shorter.", role="", operation="op", input="inputs/0", sample=None, feedback=("f",), how="copied"
    )
    assert type(copy.deepcopy(Parameter("text"))) is Parameter
    assert copy.deepcopy(Gradient(entry, "id")).entry == entry


def test_v11_one_variable_that_is_held_twice_is_copied_once(leaf):
    """As deepcopy does with everything."""
    copied = copy.deepcopy({"a": leaf, "b": [leaf]})
    assert copied["a"] is copied["b"][0]
    assert copied["a"] is not leaf


@pytest.mark.parametrize("copied_by", [copy.deepcopy, copy.copy])
def test_v11_only_leaves_can_be_copied(written, copied_by):
    """What an operation wrote has a past, which a copy would not have."""
    with pytest.raises(RuntimeError, match=r"only leaves can be copied deeply; use detach\(\)"):
        copied_by(written)


def test_v12_copy_takes_the_data_and_nothing_else(leaf):
    """Role, requires_grad and gradients stay; the id is new; it returns itself."""
    before = leaf.id
    leaf.append_grad(Variable("Shorter."))
    assert leaf.copy_(Variable("Be long.", role="other")) is leaf
    assert (leaf.data, leaf.role, leaf.requires_grad, len(leaf.grad)) == ("Be long.", "prompt", True, 1)
    assert leaf.id != before


def test_v12_copy_takes_variables_only(leaf):
    """The message says what to do with data."""
    with pytest.raises(TypeError, match="copy_ takes a Variable, not str; assign `data` instead"):
        leaf.copy_("text")


@pytest.mark.parametrize(
    ("into", "source", "told"),
    [
        (["a"], ["b", "c"], "a list of 2 cannot take the place of a list of 1"),
        ("a", ["b", "c"], "a list of 2 cannot take the place of a scalar"),
        ([1, 2], 3, "a scalar cannot take the place of a list of 2"),
    ],
)
def test_v12_copy_takes_data_of_the_same_shape(into, source, told):
    """The message says both shapes, and nothing has changed."""
    variable = Variable(into)
    before = held(variable)
    with pytest.raises(ValueError, match=f"{told}; give data of the same shape"):
        variable.copy_(Variable(source))
    assert held(variable) == before


def test_v12_into_what_an_operation_wrote_it_is_an_edit(written):
    """As if the data were assigned."""
    written.copy_(Variable("Be both."))
    assert (written.data, written.is_leaf) == ("Be both.", False)
    assert written.grad_fn.name() == "EditBackward"


# ---- V13: as text


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ("short", "short"),
        ("x" * 40, "x" * 40),
        ("a" * 20 + "-" + "b" * 20, "a" * 20 + "..." + "b" * 20),
        (12.5, "12.5"),
        ([1, 2, 3, 4, 5, 6], "[1, 2, 3, 4, 5, 6]"),
        ([1, 2, 3, 4, 5, 6, 7], "[1, 2, 3, ..., 5, 6, 7]"),
        (["a" * 41, None], "[" + "a" * 20 + "..." + "a" * 20 + ", None]"),
    ],
)
def test_v13_str_is_short(data, shown):
    """Twenty characters of both ends of a long text, the first and last three of more than six items."""
    assert str(Variable(data)) == shown


def test_v13_repr_also_says_what_it_is_for():
    """In short as well, and only if it learns that it does."""
    assert repr(Variable("x" * 50, role="task")) == f"Variable('{'x' * 20}...{'x' * 20}', role='task')"
    assert repr(Parameter([1, 2])) == "Parameter([1, 2], role='', requires_grad=True)"


@given(DATA)
def test_v13_str_is_never_long(data):
    """Whatever it holds: at most six items of at most 43 characters."""
    assert len(str(Variable(data))) <= 6 * (43 + 2) + 7


# ---- ids and names


@pytest.mark.parametrize(
    "change",
    [
        lambda leaf: setattr(leaf, "data", "Be long."),
        lambda leaf: setattr(leaf, "data", ["a", "b"]),
        lambda leaf: setattr(leaf, "role", "other"),
        lambda leaf: setattr(leaf, "requires_grad", False),
        lambda leaf: leaf.requires_grad_(requires_grad=False),
        lambda leaf: leaf.copy_(Variable("Be long.")),
    ],
    ids=["data", "shape", "role", "requires_grad", "requires_grad_", "copy_"],
)
def test_a_leaf_that_changes_has_a_new_id_and_the_same_name(leaf, change):
    """All values of one Variable go by one name."""
    first = leaf.id
    assert leaf.name == first
    change(leaf)
    assert leaf.id != first
    assert leaf.name == leaf.read().value.name == first


def test_a_given_name_stays():
    """It is that of all values, the first included."""
    variable = Variable("a", name="prompt")
    assert (variable.name, variable.read().value.name) == ("prompt", "prompt")
    variable.data = "b"
    assert (variable.name, variable.read().value.name) == ("prompt", "prompt")


def test_what_does_not_change_keeps_its_id(leaf):
    """To ask for what is so already begins no new value; nor does a gradient."""
    first = leaf.id
    leaf.requires_grad_()
    leaf.requires_grad = True
    leaf.append_grad(Variable("Shorter."))
    assert leaf.id == first


def test_requires_grad_is_said_of_leaves_only(leaf, written):
    """Of what an operation wrote it follows; the message names the way out."""
    assert leaf.requires_grad_(requires_grad=False) is leaf
    assert not leaf.requires_grad
    with pytest.raises(RuntimeError, match=r"follows from what it read; use detach\(\)"):
        written.requires_grad_(requires_grad=False)
    with pytest.raises(RuntimeError, match=r"use detach\(\)"):
        written.requires_grad = False
    assert written.requires_grad_() is written


def test_the_role_of_what_an_operation_wrote_is_recorded(written):
    """A leaf may be given another one."""
    with pytest.raises(RuntimeError, match="give a leaf another one"):
        written.role = "other"
    assert written.role == "prompt and tone"


def test_detached_it_is_a_leaf_that_nothing_passes_through(written):
    """With the same data and role, and an id of its own."""
    detached = written.detach()
    assert (detached.data, detached.role) == (written.data, written.role)
    assert (detached.is_leaf, detached.requires_grad, detached.grad_fn) == (True, False, None)
    assert detached.id != written.id


# ---- edits of what an operation wrote


def test_data_that_is_assigned_to_what_an_operation_wrote_is_an_edit(written):
    """It stays written, with another id, the same name and role, and still requires a gradient."""
    first = written.id
    written.data = "Be both."
    assert (written.data, written.role, written.requires_grad) == ("Be both.", "prompt and tone", True)
    assert (written.is_leaf, written.id != first, written.name) == (False, True, first)
    edit = written.graph().graph.operations[-1]
    assert (edit.op, edit.inputs, edit.outputs) == ("edit", (first,), (written.id,))


def test_every_edit_is_recorded(written):
    """One after the other, each on what the one before made."""
    ids = [written.id]
    for data in ("one", "two", "three"):
        written.data = data
        ids.append(written.id)
    edits = [one for one in written.graph().graph.operations if one.op == "edit"]
    assert [(one.inputs[0], one.outputs[0]) for one in edits] == list(pairwise(ids))
    assert {written.name} == {ids[0]}


def test_an_edit_may_change_the_kind_but_not_the_shape(leaf):
    """A number may be read out of a text; a batch has to keep its items."""
    batch = Variable(["1", "2"], requires_grad=True) + Variable(["a", "b"])
    batch.data = [1, None]
    assert batch.data == [1, None]
    for wrong in ("text", [1], [1, 2, 3]):
        with pytest.raises(ValueError, match="give data of the same shape"):
            batch.data = wrong
    assert batch.data == [1, None]


def test_an_edit_in_no_grad_is_recorded_as_well(written):
    """Or the graph would say that the operation wrote what the program did."""
    with no_grad():
        written.data = "Be both."
    assert written.grad_fn.name() == "EditBackward"


def test_what_read_the_text_before_an_edit_still_reads_that(written):
    """An edit changes the Variable, and not what was computed of it."""
    reader = written + Variable("!")
    before = written.id
    written.data = "Be both."
    assert reader.data == "Be brief. Be kind.!"
    assert before in {id for one in reader.graph().graph.operations for id in one.inputs}
    assert written.id not in reader.graph().graph.index.variables


def test_unrecorded_what_an_operation_wrote_is_a_leaf(leaf):
    """It can be changed, trained and asked like any other."""
    with no_grad():
        made = leaf + Variable("!")
    made.data = ["another", "shape"]
    made.role = "other"
    made.requires_grad_()
    assert (made.is_leaf, made.requires_grad, made.grad) == (True, True, [])
    assert not (made + Variable(["a", "b"])).is_leaf


# ---- never two values under one id

CHANGES = {
    "data": lambda one, text: setattr(one, "data", text),
    "role": lambda one, text: one.is_leaf and setattr(one, "role", text),
    "copy_": lambda one, text: one.copy_(Variable(text)),
    "off": lambda one, _: one.is_leaf and one.requires_grad_(requires_grad=False),
    "on": lambda one, _: one.is_leaf and one.requires_grad_(requires_grad=True),
    "grad": lambda one, text: one.is_leaf and one.append_grad(Variable(text)),
    "read": lambda one, _: one + Variable("read"),
    "deepcopy": lambda one, _: one.is_leaf and copy.deepcopy(one),
}


@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.sampled_from(["a", "b", ""])), max_size=12),
)
def test_an_id_never_means_two_values(recorded, changes):
    """Whatever is done to a Variable, in any order: an id stands for one value, a name for one Variable."""
    variable = Variable("first", role="r", requires_grad=True)
    if recorded:
        variable = variable + Variable("second", role="s")
    name, seen = variable.name, {}
    for change, text in changes:
        seen[variable.id] = held(variable)
        CHANGES[change](variable, text)
        assert seen.setdefault(variable.id, held(variable)) == held(variable)
        assert variable.name == name


@given(st.lists(st.sampled_from(["data", "add", "copy_", "split"]), min_size=1, max_size=8))
def test_a_graph_never_contradicts_what_was_computed_from_it(changes):
    """After any edits of a Variable in use, all that was computed goes together into one graph."""
    variable = Variable("a b", role="r", requires_grad=True) + Variable(" c", role="s")
    made = []
    for at, change in enumerate(changes):
        if change == "data":
            variable.data = f"text {at}"
        elif change == "copy_":
            variable.copy_(Variable(f"copied {at}"))
        else:
            made.append(variable + Variable("!") if change == "add" else split(variable)[0])
    whole = variable
    for one in made:
        whole = whole + one
    graph = whole.graph().graph
    assert graph.index.variables[whole.id].data == whole.data
    assert len([one for one in graph.operations if one.op == "edit"]) == sum(
        change in ("data", "copy_") for change in changes
    )


# ---- the package


PROMISED = {"Refused", "BrokerUnreachable", "ConnectionClosed", "Gradient", "Response", "Tape"}


def test_all_that_the_package_names_can_be_imported():
    """Lazily, each in order and once; what programs catch and hold is among it."""
    assert backtalk.__all__ == sorted(set(backtalk.__all__))
    assert set(backtalk.__all__) >= PROMISED
    namespace = {}
    exec(f"from backtalk import {', '.join(backtalk.__all__)}", namespace)
    assert namespace.keys() >= set(backtalk.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = backtalk.nothing


def test_a_name_of_the_package_is_what_its_module_has():
    """Whoever catches the one catches the other."""
    from backtalk import BrokerUnreachable, ConnectionClosed, Gradient, Refused, Response, Tape  # noqa: PLC0415

    assert (BrokerUnreachable, Refused) == (client.BrokerUnreachable, client.Refused)
    found = (ConnectionClosed, autodiff.Gradient, Response, Tape)
    assert found == tuple(
        getattr(autodiff, one.__name__) for one in (ConnectionClosed, Gradient, Response, Tape)
    )
    assert issubclass(ConnectionClosed, ConnectionError)
    assert isinstance(Variable("a", requires_grad=True).graph(), Tape)


def test_naming_a_variable_imports_no_broker():
    """What is not used costs nothing: the package itself imports nothing of its own."""
    code = "import backtalk, sys; print([one for one in sys.modules if one.startswith('backtalk.')])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"
