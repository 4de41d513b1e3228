"""Checkpoints, and the modules whose state is in them: as JSON, whole or not at all, and without secrets."""

import copy
import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtalk import Parameter, Variable, load, save
from backtalk import cognitive as cog
from backtalk.models.openai import OpenAI
from backtalk.optim import TGD

KEY = "sk-secret"


class Leaf(cog.Module):
    def __init__(self, text="Be brief."):
        super().__init__()
        self.prompt = Parameter(text, role="system prompt")
        self.fixed = Variable("not learned")


class Tree(cog.Module):
    """Modules and Parameters as attributes, in a list and in a dict; one Parameter stands twice."""

    def __init__(self, text="Be brief."):
        super().__init__()
        self.first = Leaf(f"{text} 1")
        self.listed = [Leaf(f"{text} 2"), "no module", Leaf(f"{text} 3")]
        self.named = {"chat": cog.ChatCompletion(temperature=0), "leaf": Leaf(f"{text} 4")}
        self.texts = [Parameter(f"{text} 5"), Parameter(f"{text} 6", requires_grad=False)]
        self.by_name = {"own": Parameter(f"{text} 7")}
        self.shared = self.first.prompt


NAMES = {
    "shared": 1,
    "texts.0": 5,
    "texts.1": 6,
    "by_name.own": 7,
    "listed.0.prompt": 2,
    "listed.2.prompt": 3,
    "named.leaf.prompt": 4,
}


# ---- files


STATES = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abé{}", max_size=3), inner),
        max_leaves=8,
    ),
)


@given(STATES)
def test_what_was_saved_is_loaded(tmp_path_factory, state):
    """Any JSON, to the letter."""
    path = tmp_path_factory.mktemp("checkpoint") / "step.json"
    save(state, path)
    assert load(path) == state


def test_a_checkpoint_is_json_that_people_can_read(tmp_path):
    """Marked with its version, with letters as they are; a path may be a text."""
    save({"prompt": "größer"}, str(tmp_path / "step.json"))
    text = (tmp_path / "step.json").read_text("utf-8")
    assert json.loads(text) == {"backtalk_checkpoint": 1, "state": {"prompt": "größer"}}
    assert "größer" in text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"state": {}}',
        b'{"backtalk_checkpoint": 1}',
        b'{"backtalk_checkpoint": 1, "state": []}',
        b"\x80\x04\x95\x00\xff",
    ],
    ids=["empty", "cut", "list", "null", "object", "no mark", "no state", "odd state", "pickle"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    """The error names the file; nothing in it is run."""
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.json: is no checkpoint"):
        load(path)


@pytest.mark.parametrize("nested", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_a_file_that_nests_too_deep_is_no_checkpoint(tmp_path, nested):
    """Python's own limit is told as what is wrong with the file."""
    path = tmp_path / "deep.json"
    path.write_text(f'{{"backtalk_checkpoint": 1, "state": {{"a": {nested}}}}}')
    with pytest.raises(ValueError, match=r"deep\.json: is no checkpoint"):
        load(path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_who_may_read_a_checkpoint_is_said_by_the_umask(tmp_path, umask, mode):
    """As of any file, whether it is new or takes the place of another."""
    before = os.umask(umask)
    try:
        for _ in range(2):
            save({"good": 1}, tmp_path / "step.json")
            assert stat.S_IMODE((tmp_path / "step.json").stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize("version", [2, 0, "1"])
def test_other_versions_are_refused(tmp_path, version):
    """The error names both versions."""
    path = tmp_path / "later.json"
    path.write_text(json.dumps({"backtalk_checkpoint": version, "state": {}}))
    with pytest.raises(ValueError, match=rf"version {version}; this Backtalk reads version 1"):
        load(path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    """As Python says it."""
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"a": {"b": [object()]}}, TypeError),
        ({"a": float("nan")}, (TypeError, ValueError)),
        ({"a": "\ud800"}, (TypeError, ValueError)),
        ({1: "a"}, TypeError),
    ],
    ids=["object", "nan", "surrogate", "key"],
)
def test_what_cannot_be_saved_leaves_the_file_as_it_was(tmp_path, state, error):
    """Whole or not at all: the last checkpoint stays, and nothing else is left behind."""
    path = tmp_path / "step.json"
    save({"good": 1}, path)
    with pytest.raises(error):
        save(state, path)
    assert load(path) == {"good": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["step.json"]


def test_what_json_cannot_hold_is_named_by_its_path(tmp_path):
    """Dots and numbers lead to it."""
    with pytest.raises(TypeError, match=r"state\.model\.tools\.1: set"):
        save({"model": {"tools": ["a", {1}]}}, tmp_path / "step.json")


def test_a_file_that_cannot_take_its_place_is_not_left_behind(tmp_path):
    """Where the name is that of a directory, nothing is written."""
    (tmp_path / "step.json").mkdir()
    with pytest.raises(OSError, match=r"step\.json"):
        save({"good": 1}, tmp_path / "step.json")
    assert [one.name for one in tmp_path.iterdir()] == ["step.json"]


# ---- modules


def test_parameters_are_found_by_their_dotted_names():
    """In attributes, lists and dicts, this module's own first; each once; other Variables do not count."""
    tree = Tree()
    assert {name: one.data for name, one in tree.named_parameters()} == {
        name: f"Be brief. {number}" for name, number in NAMES.items()
    }
    assert [name for name, _ in tree.named_parameters("root")][:2] == ["root.texts.0", "root.texts.1"]
    assert len(list(tree.parameters())) == 7


def test_parameters_and_modules_are_found_in_whatever_holds_them():
    """Lists in dicts in lists, however deep: each once, with the names and numbers that lead to it."""
    tree, one, two = cog.Module(), Parameter("one"), Parameter("two")
    tree.rows = [[one, {"deep": [("x", two)]}], ({"leaf": Leaf(), 7: [[Leaf()]]},)]
    tree.again = {"rows": tree.rows}
    named = dict(tree.named_parameters())
    assert list(named) == ["rows.0.0", "rows.0.1.deep.0.1", "rows.1.0.leaf.prompt", "rows.1.0.7.0.0.prompt"]
    assert (named["rows.0.0"], named["rows.0.1.deep.0.1"]) == (one, two)
    assert [name for name, _ in tree.named_modules()] == ["", "rows.1.0.leaf", "rows.1.0.7.0.0"]
    assert not any(leaf.training for leaf in tree.eval().modules())


def test_what_is_held_deep_is_saved_and_loaded():
    """By the same names, into another instance."""
    learned, fresh = cog.Module(), cog.Module()
    learned.rows, fresh.rows = ([{"leaf": [Leaf(text)]}, [[Parameter(text)]]] for text in ("Learned.", "x"))
    fresh.load_state_dict(learned.state_dict())
    assert [one.data for one in fresh.parameters()] == ["Learned."] * 2


def test_no_two_parameters_have_one_name():
    """Keys may hold dots: what is saved under a name is one Parameter, or that is refused."""
    module = cog.Module()
    module.prompts = {"gpt-4.1": Parameter("one"), "gpt-4": [Parameter("zero"), Parameter("two")]}
    try:
        saved = module.state_dict()["parameters"]
    except ValueError as error:
        assert "gpt-4.1" in str(error)  # noqa: PT017
    else:
        assert sorted(one["data"] for one in saved.values()) == ["one", "two", "zero"]


def test_modules_are_found_by_their_dotted_names():
    """Each once, from the root, whose name is empty."""
    tree = Tree()
    names = ["", "first", "listed.0", "listed.2", "named.chat", "named.leaf"]
    assert [name for name, _ in tree.named_modules()] == names
    assert list(tree.children()) == list(tree.modules())[1:]


def test_a_module_that_holds_itself_is_found_once():
    """A cycle ends."""
    leaf = Leaf()
    leaf.again = [leaf]
    assert list(leaf.modules()) == [leaf]


def test_train_and_eval_reach_every_module():
    """And return the module."""
    tree = Tree()
    assert tree.eval() is tree
    assert not any(one.training for one in tree.modules())
    assert all(one.training for one in tree.train().modules())


def test_a_module_without_forward_says_so():
    """By its own name."""
    with pytest.raises(NotImplementedError, match=r"Leaf has no forward\(\)"):
        Leaf()()


# ---- their state


def test_a_state_comes_back_whole(tmp_path):
    """Data, role and requires_grad of every Parameter, through a file, into another instance."""
    learned, fresh = Tree("Learned."), Tree()
    learned.texts[0].role = "changed"
    learned.texts[0].requires_grad = False
    save(learned.state_dict(), tmp_path / "step.json")
    fresh.load_state_dict(load(tmp_path / "step.json"))
    assert fresh.state_dict() == learned.state_dict()
    assert fresh.listed[2].prompt.data == "Learned. 3"
    assert (fresh.texts[0].role, fresh.texts[0].requires_grad) == ("changed", False)


def test_a_shared_parameter_is_saved_once_and_stays_shared():
    """By the first of its names; loading changes the one object that both names hold."""
    learned, fresh = Tree("Learned."), Tree()
    state = learned.state_dict()
    assert "first.prompt" not in state["parameters"]
    fresh.load_state_dict(state)
    assert fresh.shared is fresh.first.prompt
    assert fresh.shared.data == "Learned. 1"


def test_a_parameter_stays_the_same_object_and_begins_a_new_value():
    """An optimizer that holds it goes on with it; an id still names one value."""
    leaf = Leaf()
    held, id = leaf.prompt, leaf.prompt.id
    leaf.load_state_dict(Leaf("Learned.").state_dict())
    assert leaf.prompt is held
    assert (held.data, held.id != id) == ("Learned.", True)


def test_a_batch_can_be_a_parameter(tmp_path):
    """Lists come back as lists."""
    module, fresh = cog.Module(), cog.Module()
    module.examples, fresh.examples = Parameter([1, 2.5]), Parameter([0, 0])
    save(module.state_dict(), tmp_path / "step.json")
    fresh.load_state_dict(load(tmp_path / "step.json"))
    assert fresh.examples.data == [1.0, 2.5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state["parameters"].pop("shared"), r"missing \['shared'\], unknown nothing"),
        (lambda state: state["parameters"].update(x={}), r"missing nothing, unknown \['x'\]"),
        (lambda state: state["modules"].update(y={}), r"unknown \['y'\]"),
        (lambda state: state.clear(), r"missing \['by_name.own', .*'texts.1'\]"),
    ],
    ids=["missing", "unknown", "module", "empty"],
)
def test_a_state_that_does_not_fit_is_refused(change, words):
    """The error names what is missing and what nobody knows, and nothing is changed."""
    tree = Tree()
    before = copy.deepcopy(tree.state_dict())
    state = Tree("Learned.").state_dict()
    change(state)
    with pytest.raises(ValueError, match=words):
        tree.load_state_dict(state)
    assert tree.state_dict() == before


def everything(module):
    """Return the state of a module, and what its Parameters are known by and hold."""
    return module.state_dict(), [(one.id, list(one.grad)) for one in module.parameters()]


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("role"),
        lambda told: told.pop("data"),
        lambda told: told.pop("requires_grad"),
        lambda told: told.update(data=None),
        lambda told: told.update(data={"a": 1}),
        lambda told: told.update(data=["a", 1]),
        lambda told: told.update(data=[]),
        lambda told: told.update(data="\ud83d"),
        lambda told: told.update(role=None),
        lambda told: told.update(role="\ud83d"),
    ],
    ids=["role", "data", "grad", "null", "dict", "mixed", "empty", "half", "no role", "half role"],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_parameter_that_cannot_be_loaded_leaves_all_of_them(change, strict):
    """The error names it, and those before it have neither new texts nor new ids."""
    tree, state = Tree(), Tree("Learned.").state_dict()
    tree.first.prompt.append_grad(Variable("Be kind."))
    change(state["parameters"]["named.leaf.prompt"])
    before = everything(tree)
    with pytest.raises(ValueError, match=r"the state of 'named\.leaf\.prompt' does not fit"):
        tree.load_state_dict(state, strict=strict)
    assert everything(tree) == before


@pytest.mark.parametrize("told", [None, "Be brief.", [], 5], ids=["null", "text", "list", "number"])
def test_what_is_no_saved_parameter_is_refused_by_name(told):
    """Nothing of the state is taken."""
    tree, state = Tree(), Tree("Learned.").state_dict()
    state["parameters"]["named.leaf.prompt"] = told
    before = everything(tree)
    with pytest.raises(ValueError, match=r"the state of 'named\.leaf\.prompt' does not fit"):
        tree.load_state_dict(state)
    assert everything(tree) == before


@pytest.mark.parametrize(
    "told",
    [
        {"completion_args": {"api_key": KEY}},
        {},
        {"completion_args": None},
        {"completion_args": "x"},
        None,
        "x",
    ],
    ids=["key", "no arguments", "null", "text", "nothing", "only text"],
)
def test_a_module_that_cannot_be_loaded_leaves_all_of_them(told):
    """What is kept beside Parameters is checked as early as they are."""
    tree, state = Tree(), Tree("Learned.").state_dict()
    state["modules"]["named.chat"] = told
    before = everything(tree)
    with pytest.raises((ValueError, TypeError), match=r"named\.chat|api_key"):
        tree.load_state_dict(state)
    assert everything(tree) == before


@pytest.mark.parametrize(
    "state",
    [None, [], "x", {"parameters": None}, {"parameters": []}, {"parameters": {}, "modules": None}],
    ids=["null", "list", "text", "no parameters", "a list of them", "no modules"],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_no_state_is_a_value_error(state, strict):
    """As every other state that does not fit."""
    tree = Tree()
    before = everything(tree)
    with pytest.raises(ValueError, match="state"):
        tree.load_state_dict(state, strict=strict)
    assert everything(tree) == before


def test_the_state_of_something_else_is_refused():
    """That of an optimizer, also by a module that has no Parameters of its own."""
    state = TGD(Leaf().parameters(), OpenAI()).state_dict()
    for module in (Leaf(), cog.ChatCompletion(seed=1)):
        before = everything(module)
        with pytest.raises(ValueError, match="does not fit"):
            module.load_state_dict(state)
        assert everything(module) == before


@pytest.mark.parametrize("secret", ["api_key", "base_url", "extra_headers"])
def test_no_key_is_loaded_from_a_checkpoint(secret):
    """A state that somebody else wrote is no way for it to get into calls."""
    chat = cog.ChatCompletion(seed=1)
    with pytest.raises((TypeError, ValueError), match=f"{secret}.*OPENAI_API_KEY"):
        chat.load_extra_state({"completion_args": {"seed": 2, secret: KEY}})
    assert chat.completion_args == {"seed": 1}


def test_what_belongs_to_the_program_is_not_loaded():
    """How a batch is split, tools and functions: the others beside them are."""
    judge = cog.LMJudgeEvaluator(items_per_job=3)
    judge.load_extra_state(
        {"completion_args": {"items_per_job": 9, "tools": [], "success_fn": 1, "eval_mode": False, "seed": 2}}
    )
    assert judge.items_per_job == 3
    assert judge.completion_args == {"seed": 2}
    assert judge.merged({}) == {"items_per_job": 3, "seed": 2}


def test_without_strict_what_fits_is_taken():
    """The rest is left out, on both sides."""
    tree, state = Tree(), Tree("Learned.").state_dict()
    state["parameters"]["other"] = state["parameters"].pop("shared")
    state["modules"]["other"] = {"completion_args": {}}
    tree.load_state_dict(state, strict=False)
    assert (tree.shared.data, tree.texts[0].data) == ("Be brief. 1", "Learned. 5")


def test_c15_completion_arguments_are_saved_and_taken_for_their_own():
    """Those that a module was made with; a loaded one calls with them."""
    learned, fresh = cog.ChatCompletion(model="gpt-4o", seed=1), cog.ChatCompletion(seed=2, top_p=1)
    state = learned.state_dict()
    assert state == {"parameters": {}, "modules": {"": {"completion_args": {"model": "gpt-4o", "seed": 1}}}}
    fresh.load_state_dict(state)
    assert fresh.completion_args == {"seed": 1, "top_p": 1, "model": "gpt-4o"}


def test_m6_usage_is_in_no_checkpoint():
    """It belongs to a client, and is neither lost nor counted twice by saving."""
    client = OpenAI(model="gpt-4o")
    client.spend({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
    leaf = Leaf()
    leaf.client = client
    state = json.dumps([leaf.state_dict(), TGD(leaf.parameters(), client).state_dict()])
    assert "tokens" not in state
    assert client.get_usage()["total_tokens"] == 2


@pytest.mark.parametrize("secret", ["api_key", "base_url", "extra_headers"])
def test_no_key_gets_into_a_checkpoint(tmp_path, secret):
    """Whoever passes one to a module or an optimizer is refused, at the latest when it would be saved."""
    leaf = Leaf()
    leaf.client = OpenAI(model="gpt-4o")
    for make in (cog.ChatCompletion, lambda **told: TGD(leaf.parameters(), leaf.client, **told)):
        with pytest.raises(TypeError, match=secret):
            save(make(**{secret: KEY}).state_dict(), tmp_path / "step.json")
    assert list(tmp_path.iterdir()) == []
