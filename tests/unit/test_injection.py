"""How messages change on their way: blocks, rewritten messages, and nothing that was given."""

import copy

import pytest

from backtalk.injection import as_json, block_text, inject, with_token
from backtalk.prompt import Conversation, FailedItem
from backtalk.wire.errors import TooLarge
from backtalk.wire.graph import RecordedMessage, Variable
from backtalk.wire.tools import Injected, Insert, Rewritten

IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
TEXTS = {"v": 'a "b" \\ {{func_call_token}}\n', "empty": "", "token": "{{ func_call_token }}"}


def text(text, **fields):
    return {"type": "text", "text": text, **fields}


def user(content, **fields):
    return {"role": "user", "content": content, **fields}


def injected(*messages, **fields):
    return Injected(**{"mode": "inject", "call_token": "!call:", "messages": messages, **fields})


def sent(messages, *rewritten, **fields):
    before = copy.deepcopy(messages)
    made = inject(messages, injected(*rewritten, **fields), TEXTS.__getitem__)
    assert messages == before
    return made


# ---- the block


@pytest.mark.parametrize(
    ("content", "top", "bottom"),
    [
        ("a", "B\n\na", "a\n\nB"),
        ("", "B", "B"),
        (None, "B", "B"),
        (" ", "B\n\n ", " \n\nB"),
        ([text("a")], [text("B\n\na")], [text("a\n\nB")]),
        (
            [text("a", x=1), text("b", x=2)],
            [text("B\n\na", x=1), text("b", x=2)],
            [text("a", x=1), text("b\n\nB", x=2)],
        ),
        ([IMAGE], [text("B\n\n"), IMAGE], [IMAGE, text("\n\nB")]),
        (
            [IMAGE, text("a"), IMAGE],
            [text("B\n\n"), IMAGE, text("a"), IMAGE],
            [IMAGE, text("a"), IMAGE, text("\n\nB")],
        ),
        ([{"type": "text", "text": None}], [text("B\n\n"), text(None)], [text(None), text("\n\nB")]),
    ],
    ids=str,
)
def test_the_block_stands_at_one_side_of_the_first_message(content, top, bottom):
    """One blank line from its content, or alone; parts that are no text keep their place."""
    rest = user("rest")
    assert sent([user(content, name="ada"), rest], block=("B",)) == [user(top, name="ada"), rest]
    assert sent([user(content), rest], block=("B",), side="bottom") == [user(bottom), rest]


def test_a_block_is_made_of_texts_and_variables():
    """As they are, inside of JSON, or as words with the call token in its place."""
    block = (
        "<",
        Insert(variable="v"),
        "|",
        Insert(variable="v", form="json"),
        "|",
        Insert(variable="v", form="words"),
        ">{{func_call_token}}",
    )
    assert block_text(injected(block=block), TEXTS.__getitem__) == (
        '<a "b" \\ {{func_call_token}}\n'
        '|a \\"b\\" \\\\ {{func_call_token}}\\n'
        '|a "b" \\ !call:\n'
        ">{{func_call_token}}"
    )


def test_a_block_that_is_too_long_is_refused_before_it_fills_the_memory():
    """A short graph can name a long text many times."""
    long = injected(block=(Insert(variable="v", form="json"),) * 100)
    with pytest.raises(TooLarge, match="fewer words"):
        block_text(long, lambda _: "x" * 1_000_000)


def test_a_text_that_is_missing_fails_the_item():
    """As everywhere in a prompt."""
    variables = {
        "v": Variable(id="v", data=["x", None], role="r"),
        "u": Variable(id="u", data="Hi", role="r"),
    }
    message = RecordedMessage(role="user", content=("u",))
    made = Conversation((message,), {}, variables, {}, injected(block=(Insert(variable="v"),)))
    assert made.render(0) == [user("x\n\nHi")]
    with pytest.raises(FailedItem, match="item 1 of variable 'v'"):
        made.render(1)


def test_what_is_injected_is_not_filled():
    """Inputs belong to the messages; braces in tools are braces."""
    variables = {"u": Variable(id="u", data="{x}", role="r"), "v": Variable(id="v", data="{x}", role="r")}
    message = RecordedMessage(role="user", content=("u",))
    made = Conversation((message,), {"x": "v"}, variables, {}, injected(block=("{x}", Insert(variable="v"))))
    assert made.render(None) == [user("{x}{x}\n\n{x}")]
    assert Conversation(
        (message,),
        {"x": "u"},
        {**variables, "u": Variable(id="u", data="{x} {x}", role="r")},
        {},
        injected(block=("{x}",)),
    ).render(None) == [user("{x}\n\n{x} {x} {x} {x}")]


def test_without_an_injection_messages_are_as_they_were():
    """The usual case."""
    message = RecordedMessage(role="assistant", content=None, tool_calls=[])
    assert Conversation((message,), {}, {}, {}).render(None) == [
        {"role": "assistant", "content": None, "tool_calls": []}
    ]


# ---- rewritten messages


@pytest.mark.parametrize(
    ("rewritten", "expected"),
    [
        (Rewritten(message=0), user("a")),
        (Rewritten(message=0, before="<", after=">"), user("<a>")),
        (Rewritten(message=0, content="b"), user("b")),
        (Rewritten(message=0, content="b", before="<"), user("<b")),
        (Rewritten(message=0, content=""), user(None)),
        (Rewritten(message=0, role="system"), {"role": "system", "content": "a"}),
        (Rewritten(message=0, joined=True), user("a")),
    ],
    ids=str,
)
def test_what_is_absent_stays(rewritten, expected):
    """A message changes only where its rewriting says so."""
    assert sent([user("a")], rewritten) == [expected]


def test_messages_that_are_not_rewritten_are_sent_as_they_are():
    """Whichever they are."""
    messages = [user("a"), user("b"), user("c")]
    assert sent(messages, Rewritten(message=1, after="!")) == [user("a"), user("b!"), user("c")]


def test_fields_of_tools_are_for_endpoints_that_have_them():
    """Others never hear of them; the name of a tool goes with its role."""
    message = {"role": "tool", "content": "a", "tool_call_id": "c", "tool_calls": [], "name": "look", "x": 1}
    rewritten = Rewritten(message=0, role="user", before="<")
    assert sent([message], rewritten) == [user("<a", x=1)]
    assert sent([message], Rewritten(message=0, before="<")) == [
        {"role": "tool", "content": "<a", "name": "look", "x": 1}
    ]
    assert sent([message], Rewritten(message=0, content="b"), mode="native") == [{**message, "content": "b"}]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (["a", "b", "c"], "<a>\n\n<b>\n\n<c>"),
        (["a", [IMAGE], "c"], [text("<a>"), text("<"), IMAGE, text(">"), text("<c>")]),
        ([[text("a")], [text("b")]], [text("<a>"), text("<b>")]),
    ],
    ids=str,
)
def test_joined_messages_become_one(contents, expected):
    """A blank line between texts, and parts in their order."""
    messages = [user("first"), *({"role": "tool", "content": content} for content in contents), user("last")]
    rewritten = [
        Rewritten(message=at, role="user", before="<", after=">", joined=at > 1)
        for at in range(1, len(contents) + 1)
    ]
    assert sent(messages, *rewritten) == [user("first"), user(expected), user("last")]


def test_an_empty_message_joins_without_a_trace():
    """No blank line for nothing."""
    messages = [user("a"), user(""), user("b"), user(None)]
    rewritten = [Rewritten(message=at, joined=at > 0) for at in range(4)]
    assert sent(messages, *rewritten) == [user("a\n\nb")]


def test_the_block_stands_in_what_was_rewritten():
    """And joined: it comes last."""
    messages = [{"role": "tool", "content": "a"}, {"role": "tool", "content": "b"}]
    rewritten = [Rewritten(message=at, role="user", before="<", joined=at > 0) for at in range(2)]
    assert sent(messages, *rewritten, block=("B",)) == [user("B\n\n<a\n\n<b")]
    assert sent(messages, *rewritten, block=("B",), side="bottom") == [user("<a\n\n<b\n\nB")]


def test_without_messages_there_is_nothing_to_inject_into():
    """A graph may hold an operation without any."""
    assert sent([], block=("B",)) == []


# ---- small words


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("{{func_call_token}}", r"\1{{func_call_token}}"),
        ("{{ func_call_token }}{{func_call_token }}", r"\1{{func_call_token}}" * 2),
        ("a {func_call_token} {{ func call token }}", "a {func_call_token} {{ func call token }}"),
        ("{{\nfunc_call_token\n}}", "{{\nfunc_call_token\n}}"),
        ("", ""),
    ],
)
def test_the_call_token_is_put_in_as_it_is_and_once(given, made):
    """It is no pattern, and what it brings is not looked at again."""
    assert with_token(given, r"\1{{func_call_token}}") == made


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ({"b": [1, 1.5, True, None], "a": {}}, '{"b":[1,1.5,true,null],"a":{}}'),
        ("ü\u2028<>&'\"\\/\n\x01", '"ü\u2028<>&\'\\"\\\\/\\n\\u0001"'),
    ],
    ids=repr,
)
def test_tools_are_written_as_short_json(value, made):
    """Without spaces, letters as they are, and nothing escaped for web pages."""
    assert as_json(value) == made
