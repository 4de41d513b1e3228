"""Checkpoints, and the modules whose state is in them: as JSON, whole or not at all, and without secrets."""

import copy
import json

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
