"""The one renderer: what is filled, what stays, and what is joined."""

import pytest

from backtalk.prompt import Conversation, FailedItem, as_text, fill_leaves, filler, leaves, placeholders
from backtalk.wire.codec import validate
from backtalk.wire.errors import Refused, TooLarge
from backtalk.wire.graph import PartRef, RecordedMessage, Variable
from backtalk.wire.jobs import CompletionJob

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/{name}.png", "detail": "low"}}


def conversation(*contents, inputs=None, variables=None, parts=None, **fields):
    """Return a conversation of user messages; a content is a list of texts, ids of variables and parts."""
    known = {
        id: given if isinstance(given, Variable) else Variable(id=id, data=given, role="r")
        for id, given in (variables or {}).items()
    }
    messages = []
    for content in contents:
        items = []
        for item in content:
            if isinstance(item, str) and item not in known:
                known[item] = Variable(id=item, data=item, role="r")
            items.append(item)
        messages.append(RecordedMessage(role="user", content=tuple(items), **fields))
    return Conversation(tuple(messages), inputs or {}, known, parts or {})


def rendered(*contents, sample=None, filled=True, **more):
    return [m["content"] for m in conversation(*contents, **more).render(sample, filled=filled)]


NAMES = {"name": "VALUE", "a": "A", "ab": "AB"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello {name}!", "Hello VALUE!"),
        ("{name}{name}", "VALUEVALUE"),
        ("{a}{ab}", "AAB"),
        ("{name", "{name"),
        ("name}", "name}"),
        ("{other}", "{other}"),
        ("{}", "{}"),
        ("{ name }", "{ name }"),
        ("{Name}", "{Name}"),
        ("{name!r}", "{name!r}"),
        ("{name:>10}", "{name:>10}"),
        ("{name.upper}", "{name.upper}"),
        ("{0}", "{0}"),
        ("{0.__class__}", "{0.__class__}"),
        ("{name.__class__.__mro__}", "{name.__class__.__mro__}"),
        ("{{name}}", "{{name}}"),
        ("x{{name}}y{name}", "x{{name}}yVALUE"),
        ("{{other}}", "{{other}}"),
        ("{% if name %}{{ name }}{% endif %}", "{% if name %}{{ name }}{% endif %}"),
        ('{"a": 1, "b": {"c": [{}]}}', '{"a": 1, "b": {"c": [{}]}}'),
        ('{"a":{name}}', '{"a":VALUE}'),
        ('{"a":{"b":{name}}}', '{"a":{"b":VALUE}}'),
        ("${name}", "$VALUE"),
        ("\\{name\\}", "\\{name\\}"),
        ("%(name)s %s", "%(name)s %s"),
        ("", ""),
    ],
)
def test_only_known_names_in_single_braces_are_filled(text, expected):
    """One pass; every other brace stays as it was written."""
    assert filler(NAMES)(text) == expected


@pytest.mark.parametrize("name", ["a.b", "a-b", "0", "a b", "ä", "a/b~", "[x]", "(?:x)", ".*"])
def test_a_name_may_be_any_text(name):
    """A name is matched as it stands, not as a pattern."""
    assert filler({name: "V"})(f"<{{{name}}}>") == "<V>"


def test_filled_values_are_not_scanned_again():
    """A value that looks like a placeholder is a value."""
    assert filler({"a": "{b}", "b": "{a}{{b}}"})("{a}|{b}") == "{b}|{a}{{b}}"


def test_values_are_taken_literally():
    """Nothing in a value means anything to the renderer."""
    assert filler({"a": r"\1\g<name>\\ $&"})("{a}") == r"\1\g<name>\\ $&"


@pytest.mark.parametrize(
    ("text", "used"),
    [("{a} {ab}", {"a", "ab"}), ("{{a}}", set()), ("{x}", set()), ("{a}{a}", {"a"}), ("", set())],
)
def test_the_placeholders_of_a_text_are_those_that_would_be_filled(text, used):
    """What counts as used is what the filler fills."""
    assert placeholders(NAMES)(text) == used


def test_string_leaves_of_parts_are_filled_and_nothing_else():
    """Keys, numbers and nulls of a part stay."""
    part = {"{a}": "{a}", "deep": [{"x": "{a}"}, "{{a}}", 1, None, True, 0.5]}
    assert fill_leaves(part, filler({"a": "V"})) == {
        "{a}": "V",
        "deep": [{"x": "V"}, "{{a}}", 1, None, True, 0.5],
    }
    assert list(leaves(part)) == ["{a}", "{a}", "{{a}}"]


def test_adjacent_texts_are_joined_without_a_separator():
    """A content of texts alone is sent as a plain string."""
    assert rendered(["one", "two", "three"]) == ["onetwothree"]


def test_parts_keep_their_place_between_texts():
    """With a part in it a content is a list, and the texts on either side stay on their side."""
    parts = {"p": IMAGE, "q": {"type": "file"}}
    contents = ["one", "two", PartRef(part="p"), PartRef(part="q"), "three"]
    assert rendered(contents, parts=parts) == [
        [{"type": "text", "text": "onetwo"}, IMAGE, {"type": "file"}, {"type": "text", "text": "three"}]
    ]


def test_a_content_of_parts_alone_has_no_empty_texts():
    """Endpoints refuse empty text parts."""
    assert rendered([PartRef(part="p")], parts={"p": IMAGE}) == [[IMAGE]]


def test_a_text_between_parts_that_is_empty_is_left_out():
    """There is nothing to say between them."""
    parts = {"p": IMAGE}
    contents = [PartRef(part="p"), "void", PartRef(part="p")]
    assert rendered(contents, parts=parts, variables={"void": ""}) == [[IMAGE, IMAGE]]


def test_an_empty_text_is_an_empty_string():
    """A content without parts stays a string, also when it is empty."""
    assert rendered(["void"], variables={"void": ""}) == [""]


def test_placeholders_in_parts_are_filled():
    """The address of an image may come from an input."""
    (content,) = rendered(
        [PartRef(part="p")], parts={"p": IMAGE}, inputs={"name": "v"}, variables={"v": "cat"}
    )
    assert content[0]["image_url"]["url"] == "https://example.org/cat.png"
    assert IMAGE["image_url"]["url"] == "https://example.org/{name}.png"


def test_a_placeholder_does_not_reach_over_two_texts():
    """Each text is filled for itself."""
    assert rendered(["{na", "me}"], inputs={"name": "v"}, variables={"v": "x"}) == ["{name}"]


def test_the_template_is_what_is_not_filled_yet():
    """The same conversation renders with its placeholders in place."""
    more = {"inputs": {"name": "v"}, "variables": {"v": "x"}}
    assert rendered(["Hi {name}"], **more) == ["Hi x"]
    assert rendered(["Hi {name}"], filled=False, **more) == ["Hi {name}"]


def test_every_item_of_a_batch_reads_its_own_values():
    """Lists are read by item, scalars by all: in messages, in list inputs and in lists of ids."""
    made = conversation(
        ["batch", " {one} {many} {ids}"],
        inputs={"one": "s", "many": "m", "ids": ("x", "y")},
        variables={"batch": ["B0", "B1"], "s": "S", "m": ["M0", "M1"], "x": "X", "y": "Y"},
    )
    assert [made.render(sample)[0]["content"] for sample in (0, 1)] == ["B0 S M0 X", "B1 S M1 Y"]


@pytest.mark.parametrize("inputs", [{}, {"name": "v"}], ids=["in a message", "in an input"])
def test_an_item_that_failed_before_cannot_be_rendered(inputs):
    """A null is no text, and its item has nothing to send; the others are not touched."""
    made = conversation(
        ["{name}"] if inputs else ["v"],
        inputs=inputs,
        variables={"v": Variable(id="v", data=("x", None), role="r")},
    )
    assert made.render(0)[0]["content"] == "x"
    with pytest.raises(FailedItem, match="item 1 of variable 'v' is null"):
        made.render(1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        ("", ""),
        (1, "1"),
        (1.0, "1.0"),
        (0.5, "0.5"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
    ],
    ids=repr,
)
def test_a_value_that_is_no_text_is_read_as_json(value, text):
    """The model sees booleans and numbers as every other program writes them."""
    assert as_text(value) == text


def test_other_fields_of_a_message_pass_through_unfilled():
    """Tool calls and names are not ours to change."""
    fields = {"name": "{name}", "tool_calls": [{"function": {"arguments": "{name}"}}]}
    (message,) = conversation(["{name}"], inputs={"name": "v"}, variables={"v": "x"}, **fields).render(None)
    assert message == {"role": "user", "content": "x", **fields}


def test_a_message_without_content_is_sent_without():
    """An assistant that only called tools said nothing."""
    message = RecordedMessage(role="assistant", content=None, tool_calls=[])
    assert Conversation((message,), {}, {}, {}).render(None) == [
        {"role": "assistant", "content": None, "tool_calls": []}
    ]


@pytest.mark.parametrize(
    ("contents", "parts", "unused"),
    [
        (["{a} {b}"], {}, []),
        (["{a}"], {}, ["b"]),
        (["{{a}} {b}"], {}, ["a"]),
        (["{a}", PartRef(part="p")], {"p": {"type": "x", "deep": ["{b}"]}}, []),
        (["{a}", PartRef(part="p")], {"p": {"type": "x", "{b}": 1}}, ["b"]),
        (["batch"], {}, []),
    ],
    ids=["both", "one", "escaped", "in a part", "in a key", "in one item of a batch"],
)
def test_an_input_is_used_when_any_text_names_it(contents, parts, unused):
    """Texts, string leaves of parts, and every item of a batch count."""
    made = conversation(
        contents,
        inputs={"a": "v", "b": "v"},
        variables={"v": "x", "batch": ["{a}", None, "{b}"]},
        parts=parts,
    )
    assert made.unused_inputs() == unused


def test_a_short_text_cannot_ask_for_endless_ones():
    """A long value asked for many times is refused before it fills the memory."""
    fill = filler({"a": "x" * 1_000_000})
    with pytest.raises(TooLarge, match="use long inputs less often"):
        fill("{a}" * 100)


@pytest.mark.parametrize("name", ["", "a}", "{a", "{}"])
def test_the_name_of_an_input_has_no_braces(name):
    """It could not be told from the braces around it."""
    job = {"model": "m", "messages": [{"role": "user", "content": f"{{{name}}}"}], "inputs": {name: "x"}}
    with pytest.raises(Refused, match="without braces"):
        validate(job, CompletionJob)
