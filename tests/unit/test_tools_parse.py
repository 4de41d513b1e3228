"""Calls read out of a reply, whole or in pieces."""

import json
import time

import pytest

from forward_worker.tools.known import Known, as_text
from forward_worker.tools.parse import MAX_UNREADABLE, Reader, read
from forward_worker.tools.reading import Call, Fault
from forward_worker.tools.schema import schema_of

T = "!function_call:"
KNOWN = Known({"f": None, "g": schema_of('{"required":["x"]}')})
F = Call("f", "{}")
F1 = Call("f", '{"a": 1}')
CALL = f'{T}{{"name": "f", "arguments": {{"a": 1}}}}'


def reading(text):
    return read(text, T, KNOWN.check)


def reasons(text):
    return [(problem.text, problem.fault.reason) for problem in reading(text).problems]


# ---- what a call looks like


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f' \n {T} \n\t{{"name": "f", "arguments": {{"a": 1}}}} \n',
        f'{T}{{"call": "f", "parameters": {{"a": 1}}}}',
        f'{T}{{"name": null, "call": "f", "arguments": null, "parameters": {{"a": 1}}}}',
        f'{T}{{"name": "f", "arguments": "{{\\"a\\": 1}}"}}',
        f'{T}{{"id": "x", "arguments": {{"a": 1}}, "type": "function", "name": "f"}}',
        f'{T}[{{"name": "f", "arguments": {{"a": 1}}}}]',
        f'{T}[ \n{{"name": "f", "arguments": {{"a": 1}}}} \n]',
        f"```\n{CALL}\n```",
        f"```json\n{CALL}\n```\n",
        f"``` {CALL}```",
        f'{T}```json\n{{"name": "f", "arguments": {{"a": 1}}}}\n```',
        f'{T} \n```\n{{"name": "f", "arguments": {{"a": 1}}}}```',
        f"```c++\n{CALL}",
    ],
)
def test_a_call_is_the_token_and_an_object_in_any_of_its_forms(text):
    """Nothing of it is left in the text, neither white space nor a fence around it."""
    assert reading(text) == (reading(CALL))
    assert reading(text).calls == (F1,)
    assert reading(text).content is None


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("null", "{}"),
        ("{}", "{}"),
        ('""', "{}"),
        ('" \\n"', "{}"),
        ('"{}"', "{}"),
        ('{"a":1.0,"b":[1,true,null],"ü":"\\u00fc"}', '{"a": 1.0, "b": [1, true, null], "ü": "ü"}'),
        ('{"a": "}{]["}', '{"a": "}{]["}'),
        ('{"a": "\\"}\\\\"}', '{"a": "\\"}\\\\"}'),
        ('{"a": "one\ntwo"}', '{"a": "one\\ntwo"}'),
        (f'{{"a": "{T}{{}}"}}', f'{{"a": "{T}{{}}"}}'),
        ('{"a": "```\\n```"}', '{"a": "```\\n```"}'),
        ('{"a": 1, "a": 2}', '{"a": 2}'),
        ('{"a": "\\ud83d\\ude00"}', '{"a": "😀"}'),
        ('{"a": "\\ud800"}', '{"a": "\\ud800"}'),
    ],
)
def test_arguments_are_a_json_object_as_text(written, arguments):
    """Whatever stands in their strings; none are an empty object."""
    for key in ("arguments", "parameters"):
        assert reading(f'{T}{{"name": "f", "{key}": {written}}}').calls == (Call("f", arguments),)
    arguments.encode()


def test_a_call_without_arguments_has_an_empty_object():
    """A function may take none."""
    assert reading(f'{T}{{"name": "f"}}').calls == (F,)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"Well.\n{CALL}", "Well.", 1),
        (f"{CALL}\n\nDone.", "Done.", 1),
        (f"a {CALL} b {CALL} c", "a\nb\nc", 2),
        (f"{CALL}\n{CALL}\n{CALL}", None, 3),
        (f"{CALL}{CALL}", None, 2),
        (f'a\n{T}[{{"name": "f"}}, {{"name": "f"}}]\nb', "a\nb", 2),
        (f"```\n{CALL}\n{CALL}\n```\nb", "b", 2),
        (f"a\n```\n{CALL}\n```\n```\n{CALL}\n```", "a", 2),
        (f"```\n{CALL}\nnote\n```", "note\n```", 1),
        (f"  a  \n{CALL}", "  a", 1),
        ("", None, 0),
        (" \n", " \n", 0),
        ("no call at all ``` ! {}", "no call at all ``` ! {}", 0),
    ],
)
def test_what_is_no_call_is_text(text, content, calls):
    """Several texts are lines of the content."""
    found = reading(text)
    assert (found.content, len(found.calls), found.problems) == (content, calls, ())


def test_a_block_of_code_before_a_call_keeps_its_end():
    """Its fence is not the beginning of one around the call."""
    assert reading(f"```python\nx = 1\n```\n{CALL}").content == "```python\nx = 1\n```"


@pytest.mark.parametrize(
    "token", ["!", "call", "{{call}}", "<tool|(.*)+>", "Ruf auf:", "🔧", "a a", "``call"]
)
def test_the_token_is_taken_literally(token):
    """Whatever an operator chose."""
    found = read(f'x {token} {{"name": "f"}}', token, KNOWN.check)
    assert (found.content, found.calls, found.problems) == ("x", (F,), ())


# ---- what is wrong with a call


@pytest.mark.parametrize(
    ("call", "reason", "told"),
    [
        (f"{T}", "not_json", "JSON"),
        (f"{T} f(1)", "not_json", "JSON"),
        (f"{T}{{'name': 'f'}}", "not_json", "JSON"),
        (f'{T}{{"name": "f", "arguments": {{"a": 1}}', "not_json", "JSON"),
        (f'{T}{{"name": "f", "arguments": {{"a": NaN}}}}', "not_json", "JSON"),
        (f'{T}{{"name": "f", "arguments": {{"a": 1e999}}}}', "not_json", "JSON"),
        (f'{T}{{"name": "f", "arguments": {{"a": {"9" * 5000}}}}}', "not_json", "JSON"),
        (f"{T}{'[' * 5000}", "not_json", "JSON"),
        (f'{T}"f"', "not_json", "JSON"),
        (f"{T}```json", "not_json", "JSON"),
        (f'{T}{{"name": "nobody"}}', "unknown_tool", "there is no function 'nobody'; there is f, g"),
        (f'{T}{{"name": 5}}', "unknown_tool", '"name"'),
        (f'{T}{{"name": ""}}', "unknown_tool", '"name"'),
        (f"{T}{{}}", "unknown_tool", '"name"'),
        (f"{T}[]", "unknown_tool", "empty"),
        (f'{T}{{"name": "f", "arguments": [1]}}', "bad_arguments", "of f are no JSON object"),
        (f'{T}{{"name": "f", "arguments": "x"}}', "bad_arguments", "of f are no JSON object"),
        (f'{T}{{"name": "f", "arguments": "[]"}}', "bad_arguments", "of f are no JSON object"),
        (f'{T}{{"name": "f", "arguments": false}}', "bad_arguments", "of f are no JSON object"),
        (f'{T}{{"name": "g", "arguments": {{"y": 1}}}}', "bad_arguments", "'x' is a required property"),
        (f'{T}{{"name": "g"}}', "bad_arguments", "'x' is a required property"),
    ],
)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("Well.\n", "\nDone.")])
def test_a_call_that_cannot_be_taken_is_told_and_stays(call, reason, told, before, after):
    """Its text is in the content as it was written, and the reason beside it."""
    found = reading(f"{before}{call}{after}")
    assert found.calls == ()
    assert found.content == f"{before}{call}{after}"
    (problem,) = found.problems
    assert problem.fault.reason == reason
    assert told in problem.fault.detail
    assert problem.text.startswith(call)


@pytest.mark.parametrize(
    "call",
    [
        f'{T}{{"name": "nobody"}}',
        f'{T}[{{"name": "nobody"}}, {{"name": "no one"}}]',
        f"{T}[]",
        f"{T} [ 1, 2 ]",
    ],
)
@pytest.mark.parametrize(("before", "after"), [("a ", " b"), ("```\n", "\n```"), ("  ", ""), (f"{T} ", "\n")])
def test_a_reply_without_a_single_good_call_stays_whole(call, before, after):
    """White space and fences around what is no call are text like any other."""
    text = f"{before}{call}{after}"
    assert reading(text).content == text


def test_good_calls_and_bad_ones_are_kept_apart():
    """In the order in which they stand."""
    text = f'a {CALL} b {T}oops {T}{{"name": "x"}} c {T}[{{"name": "g"}}, {{"name": "f"}}] {T}'
    found = reading(text)
    assert found.calls == (F1, F)
    assert [(problem.text, problem.fault.reason) for problem in found.problems] == [
        (f"{T}oops", "not_json"),
        (f'{T}{{"name": "x"}}', "unknown_tool"),
        (f'{T}{{"name": "g"}}', "bad_arguments"),
        (T, "not_json"),
    ]
    for problem in found.problems:
        assert problem.text in found.content


def test_the_text_of_a_call_that_is_no_json_ends_where_the_next_begins():
    """Nobody can say where it ends."""
    assert reasons(f"{T}one {CALL} {T}two") == [(f"{T}one", "not_json"), (f"{T}two", "not_json")]


def test_what_follows_too_many_tokens_without_a_call_is_text():
    """Each would cost a try at all that follows."""
    found = reading(f"{T}[" * (MAX_UNREADABLE + 10) + CALL)
    assert (len(found.problems), found.calls) == (MAX_UNREADABLE, ())
    assert found.content.endswith(CALL)


@pytest.mark.parametrize("depth", range(950, 1000, 3))
def test_a_deeply_nested_call_is_taken_or_told(depth):
    """There is a depth that nobody can follow; to get near it raises nothing."""
    for close in (depth - 2, depth - 1, depth):
        text = f'{T}{{"name": "f", "arguments": {{"a": {"[" * close}{"]" * close}}}}}'
        found = reading(text)
        assert len(found.calls) + len(found.problems) >= 1


# ---- in pieces


def fed(*texts):
    """Return the events of each piece, and of the end."""
    reader = Reader(T, KNOWN.check)
    return [reader.feed(text) for text in texts] + [reader.close()]


def test_text_is_given_out_at_once():
    """As long as it cannot be the beginning of a call."""
    assert fed("Hel", "lo", " wor", "ld") == [["Hel"], ["lo"], [" wor"], ["ld"], []]


@pytest.mark.parametrize(
    "beginning", ["!", "!func", T[:-1], "`", "``", "```", "```js", "```js\n!f", " ", "\n\n", " \n!fun"]
)
def test_what_may_be_the_beginning_of_a_call_is_held_back(beginning):
    """Until it is decided."""
    assert fed(f"a{beginning}", "?") == [["a"], [f"{beginning}?"], []]
    assert fed(f"a{beginning}")[-1] == [beginning]
    assert fed(f"a{beginning}", "") == [["a"], [], [beginning]]


def test_a_call_is_given_out_whole_as_soon_as_it_is_complete():
    """Nothing of it before, and it does not wait for what follows."""
    pieces = [
        "Well.",
        "\n",
        "!function",
        "_call:",
        ' {"name": "f", "argu',
        'ments": {"a": 1',
        "}",
        "}",
        " Done",
        ".",
    ]
    assert fed(*pieces) == [["Well."], [], [], [], [], [], [], [F1], ["\nDone"], ["."], []]


def test_calls_in_a_list_are_given_out_together():
    """When the list is complete."""
    assert fed(f'{T}[{{"name": "f"}}', ', {"name": "f"}', "]") == [[], [], [F, F], []]


def test_the_end_of_a_fence_around_a_call_is_no_text():
    """However it is cut."""
    for end in (["\n```"], ["\n", "`", "``"], ["\n`", "``\n"], ["\n```", " ", "\n"]):
        assert [event for events in fed(f"```\n{CALL}", *end) for event in events] == [F1]
    assert fed(f"```\n{CALL}", "\n``", "x")[1:] == [[], ["``x"], []]


def test_a_call_that_is_cut_off_is_text_at_the_end():
    """And a problem."""
    reader = Reader(T, KNOWN.check)
    assert reader.feed(f'a {T}{{"name": "f", "argu') == ["a"]
    assert "".join(reader.close()) == f' {T}{{"name": "f", "argu'
    assert [problem.fault.reason for problem in reader.problems] == ["not_json"]


LONG = json.dumps({"name": "f", "arguments": {"text": "} ] { [ " * 25_000}})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (f"{T}{LONG}", 50),
        (f"{T}{LONG[:-1]}", 50),
        ("x" * 100_000, 1),
        (" " * 20_000, 1),
        ("`" * 20_000, 1),
        (f"```{'a' * 20_000}", 1),
        (f"{T}{{" * 5_000, 7),
        (f"{T} " * 5_000, 7),
        ("!function_call" * 5_000, 7),
        (f"```{' ' * 5_000}" * 10, 50),
    ],
    ids=[
        "a long call",
        "cut off",
        "text",
        "spaces",
        "backticks",
        "a fence without end",
        "objects",
        "tokens",
        "beginnings",
        "fences",
    ],
)
def test_reading_takes_time_by_length_alone(text, size):
    """Neither a long call nor a hostile reply is read again with every piece."""
    began = time.process_time()
    reader = Reader(T, KNOWN.check)
    for at in range(0, len(text), size):
        reader.feed(text[at : at + size])
    reader.close()
    reading(text)
    assert time.process_time() - began < 2
    assert len(reader.problems) <= MAX_UNREADABLE


# ---- values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ({"ü": "😀"}, '{"ü": "😀"}'),
        ({"a": "\ud800é"}, '{"a": "\\ud800\\u00e9"}'),
        ({"a": 1.0}, '{"a": 1.0}'),
    ],
    ids=repr,
)
def test_arguments_are_written_so_that_they_can_be_sent(value, text):
    """Letters as they are, but for halves of characters."""
    assert as_text(value) == text
    text.encode()


def test_what_is_wrong_can_be_sent_too():
    """Also where the model wrote half a character."""
    known = Known({"f": schema_of('{"additionalProperties":{"type":"string"}}')})
    for value in (
        {"name": "\ud800"},
        {"name": "f", "arguments": {"\ud800": 5}},
        {"name": "f", "arguments": {"a": ["\ud800"]}},
    ):
        fault = known.check(value)
        assert isinstance(fault, Fault)
        fault.detail.encode()
