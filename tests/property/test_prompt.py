"""The renderer on any text: what it does not know it does not touch."""

from hypothesis import assume, given
from hypothesis import strategies as st

from backtalk.prompt import Conversation, fill_leaves, filler, leaves, placeholders
from backtalk.wire.graph import RecordedMessage, Variable

NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a.b", "ü", "x y", "0"]), unique=True)
BRACED = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "{{",
            "}}",
            "a",
            "b",
            "ab",
            "{a}",
            "{{a}}",
            "{b}",
            '{"a":',
            "{0.__class__}",
            " ",
            "\n",
            "ü",
        ]
    )
).map("".join)
PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def as_specified(text, values):
    """Fill a text letter by letter, as the design says it in words."""
    filled, at = "", 0
    while at < len(text):
        for name in values:
            if text.startswith(f"{{{{{name}}}}}", at):
                filled += f"{{{{{name}}}}}"
                at += len(name) + 4
                break
            if text.startswith(f"{{{name}}}", at):
                filled += values[name]
                at += len(name) + 2
                break
        else:
            filled += text[at]
            at += 1
    return filled


@given(text=st.text() | BRACED, values=st.dictionaries(st.text(min_size=1), st.text(), max_size=4))
def test_a_text_without_known_placeholders_is_unchanged(text, values):
    """Every brace stays that is none of ours."""
    assume(not any(f"{{{name}}}" in text for name in values))
    assert filler(values)(text) == text
    assert placeholders(values)(text) == set()


@given(text=BRACED, names=NAMES, data=st.data())
def test_filling_is_what_the_design_says_in_words(text, names, data):
    """One pass, single braces, known names, values not looked at again."""
    values = {name: data.draw(BRACED) for name in names}
    assert filler(values)(text) == as_specified(text, values)


@given(before=st.text(), between=st.text(), after=st.text(), one=st.text() | BRACED, two=st.text() | BRACED)
def test_any_value_stands_where_its_placeholder_stood(before, between, after, one, two):
    """Nothing in a value has a meaning, and nothing around it changes."""
    assume(not any("{" in text or "}" in text for text in (before, between, after)))
    template = f"{before}{{first}}{between}{{second}}{after}"
    assert filler({"first": one, "second": two})(template) == f"{before}{one}{between}{two}{after}"


@given(text=BRACED, names=NAMES)
def test_the_placeholders_found_are_those_that_are_filled(text, names):
    """A name counts as used exactly when its value would show."""
    marked = filler({name: f"<{at}>" for at, name in enumerate(names)})(text)
    assert placeholders(names)(text) == {name for at, name in enumerate(names) if f"<{at}>" in marked}


@given(part=PARTS)
def test_a_part_keeps_its_shape(part):
    """Filling changes string leaves and nothing else."""
    assert fill_leaves(part, lambda text: text) == part
    assert list(leaves(fill_leaves(part, lambda _: "x"))) == ["x" for _ in leaves(part)]


@given(texts=st.lists(st.text(), min_size=1, max_size=5))
def test_texts_alone_are_joined_to_one_string(texts):
    """Nothing is put between them."""
    variables = {str(at): Variable(id=str(at), data=text, role="r") for at, text in enumerate(texts)}
    message = RecordedMessage(role="user", content=tuple(variables))
    assert Conversation((message,), {}, variables, {}).render(None) == [
        {"role": "user", "content": "".join(texts)}
    ]
