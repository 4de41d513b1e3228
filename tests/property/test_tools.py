"""Tools in words and back: any call, any text, any prefix, any schema."""

import asyncio
import copy
import json
import random
import time
from contextlib import suppress
from itertools import zip_longest

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backtalk.runtime.streamed import Assembly
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.kinds import Request
from forward_worker.complete import complete
from forward_worker.plan import Plan
from forward_worker.tools.known import Known, anything
from forward_worker.tools.parse import Reader, read
from forward_worker.tools.reading import Call
from forward_worker.tools.schema import _kept, schema_of

T = "!function_call:"

# ---- calls

TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        T,
        f'{T}{{"name": "f"}}',
        "}",
        "{",
        "]",
        '"',
        "\\",
        "\\u0041",
        "```",
        "```json\n",
        "\n",
        "\u2028",
        "😀",
        "\x00",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(st.tuples(TEXTS.filter(bool), st.dictionaries(TEXTS, VALUES, max_size=3)), max_size=4)
# what a model may say beside its calls
AROUND = st.text(max_size=10) | st.sampled_from(
    ["", "\n", "Well, ", "!", "`", "{}", '{"name": "f"}', "!function_call"]
)


def written(name, arguments, ascii):
    """Write a call as the words of the worker ask for it."""
    call = {"name": name, "arguments": arguments}
    return f"{T}{json.dumps(call, ensure_ascii=ascii)}"


@given(calls=CALLS, around=st.lists(AROUND, min_size=5, max_size=5), ascii=st.booleans())
def test_calls_are_read_as_they_were_written(calls, around, ascii):
    """Name by name and value by value, in their order, whatever the model says around them."""
    lines = [written(name, arguments, ascii) for name, arguments in calls]
    assume(not any(T in text for text in around))
    said = [piece for pair in zip_longest(around, lines, fillvalue="") for piece in pair]
    found = read("\n".join(said), T, anything)
    assert [(call.name, json.loads(call.arguments)) for call in found.calls] == calls
    assert found.problems == ()
    for call in found.calls:
        call.arguments.encode()
    beside = "".join("".join(around).split())
    if "```" not in beside:
        assert "".join((found.content or "").split()) == beside


@given(
    calls=CALLS.filter(bool),
    keys=st.sampled_from([("call", "parameters"), ("name", "parameters"), ("call", "arguments")]),
    indent=st.none() | st.integers(0, 2),
)
def test_a_list_of_calls_is_read_like_single_ones(calls, keys, indent):
    """Under the other names, too, and however it is laid out."""
    name, arguments = keys
    values = [{arguments: told, name: called} for called, told in calls]
    found = read(f"{T}{json.dumps(values, indent=indent)}", T, anything)
    assert [(call.name, json.loads(call.arguments)) for call in found.calls] == calls
    assert found.content is None


# ---- pieces

SNOWMAN = "\u2603"
KNOWN = Known({"f": None, "g": schema_of('{"required":["x"]}')})
# a snowman stands in good calls alone
GOOD = [
    f'{{"name":"f","arguments":{{"a":"{SNOWMAN}"}}}}',
    f'{{"call": "g",\n "parameters": {{"x": ["{SNOWMAN}}}]", {{}}]}}}}',
    f'{{"name":"f","arguments":{{"a":"{T}{{}} {SNOWMAN}"}}}}',
    f'[{{"name":"f","arguments":"{{\\"a\\":\\"{SNOWMAN}\\"}}"}}]',
]
BAD = [
    '{"name":"nobody"}',
    '{"name":"g"}',
    '[{"name":"f"},{"name":"nobody"}]',
    "[]",
    "{}",
    '{"name":"f",',
    '{"name":"f","arguments":"x"}',
]
FENCED = [f"```json\n{T}{GOOD[0]}\n```", f"{T}```\n{GOOD[1]}\n```"]
FAULTY = [f"{blank}{T}{blank}{call}" for blank in ("", " \n") for call in BAD]
HALVES = [
    "!",
    "!func",
    "function_call:",
    T[:-1],
    "`",
    "``",
    "```",
    "```js",
    "```\n",
    "{",
    "}",
    "[",
    "]",
    '"',
    "\\",
]
OTHERS = [" ", "\n", "\t", " \n ", "abc", "é", "\x1c", "\u2003"]
PIECES = st.sampled_from(
    [T, T, T, *(f"{T}{call}" for call in GOOD), *FENCED, *FAULTY, *HALVES, *OTHERS, *GOOD, *BAD]
)
REPLIES = st.lists(PIECES, max_size=12).map("".join)
CUTS = st.lists(st.integers(1, 20), max_size=40)


def cut(text, lengths):
    """Yield a text in pieces of these lengths, and then of one letter each."""
    at = 0
    for length in lengths:
        yield text[at : at + length]
        at += length
    yield from text[at:]


@settings(max_examples=1000)
@given(text=REPLIES | st.text(), lengths=CUTS)
def test_a_streamed_reply_is_read_like_a_whole_one(text, lengths):
    """Text, calls and problems are the same for any split, and no content holds a part of a call that was taken."""
    whole = read(text, T, KNOWN.check)
    reader = Reader(T, KNOWN.check)
    events = [event for piece in cut(text, lengths) for event in reader.feed(piece)] + reader.close()
    said = [event for event in events if isinstance(event, str)]
    assert ("".join(said) or None) == whole.content
    assert tuple(reader.calls) == whole.calls == tuple(event for event in events if isinstance(event, Call))
    assert tuple(reader.problems) == whole.problems
    assert all(said)
    taken = sum(call.arguments.count(SNOWMAN) for call in whole.calls)
    assert "".join(said).count(SNOWMAN) == text.count(SNOWMAN) - taken


@settings(max_examples=500)
@given(text=REPLIES)
def test_nothing_that_looks_like_a_call_is_lost_in_silence(text):
    """Each token is part of a call that was taken, or of the content, or of what is told to be wrong."""
    found = read(text, T, KNOWN.check)
    in_calls = sum(call.arguments.count(T) for call in found.calls)
    left = (found.content or "").count(T)
    assert left <= text.count(T)
    assert bool(found.calls) or left == text.count(T)
    assert left + in_calls + len(found.calls) >= text.count(T)
    assert bool(left) <= bool(found.problems)


class Speaks:
    """A model that says a reply in the given pieces."""

    def __init__(self, text, lengths):
        self.assembly = Assembly()
        self.chunks = [*({"content": piece} for piece in cut(text, lengths)), None]

    def check(self, endpoint):
        pass

    async def complete(self, endpoint, body, listener=None, *, place):
        if listener is not None:
            listener.begin()
        for delta in self.chunks:
            finish = "stop" if delta is None else None
            chunk = {"object": "c", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}
            if listener is not None:
                listener.hear(chunk)
            self.assembly.add(chunk)
        return Whole(self.assembly.whole())


class Whole:
    def __init__(self, body):
        self.body = body
        self.choices = body["choices"]
        self.usage = {}


TOOLS = [
    {"type": "function", "function": {"name": "f"}},
    {"type": "function", "function": {"name": "g", "parameters": {"required": ["x"]}}},
]


@settings(max_examples=500)
@given(text=REPLIES, lengths=CUTS, choice=st.sampled_from(["auto", "required", "none"]))
def test_whoever_puts_the_chunks_together_has_the_answer(toolbox, text, lengths, choice):
    """Content, calls, ids and reason, for any reply and any split."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": TOOLS,
        "tool_choice": choice,
    }
    job = CompletionJob.model_validate({**body, "stream": True})
    chunks = []
    answer = asyncio.run(
        complete(Request("1", "k", job), model=Speaks(text, lengths), emit=chunks.append, toolbox=toolbox)
    )
    heard = Assembly()
    for chunk in chunks:
        heard.add(chunk.model_dump(mode="json", include={"choices"}))
    (made,) = heard.whole()["choices"]
    (expected,) = answer.completions[0]["choices"]
    assert (made["message"]["content"] or None) == (expected["message"]["content"] or None)
    assert made["message"].get("tool_calls") == expected["message"].get("tool_calls")
    assert made["finish_reason"] == expected["finish_reason"]


# ---- words of a request

BLOCK = '[\n{"name":"f","description":null,"parameters":null}\n]'
SEEDS = [
    "{{func_call_token}}",
    "{{ func_call_token }}",
    "{{func_call_token\t}}",
    "{{\nfunc_call_token}}",
    "{{func_call_token",
    "func_call_token}}",
    "{func_call_token}",
    "{{{func_call_token}}}",
    "{{{{func_call_token}}}}",
    "{{func_call_token}}}",
    "{{func_call_token|upper}}",
    "{{ func_call_token.__class__ }}",
    "{{FUNC_CALL_TOKEN}}",
    "{{func_call_tоken}}",
    "{{ 7*7 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self._TemplateReference__context }}",
    "{{ config }}{{ call_token }}{{ tools }}{{ prefix }}",
    "{% for x in range(10**9) %}{{ x }}{% endfor %}",
    "{% include 'call_token.jinja' %}{% import 'roles.jinja' as r %}",
    "{% raw %}{{ x }}{% endraw %}{# #}",
    "{%",
    "{{",
    "}}",
    "{#",
    "#}",
    "${7*7}#{7*7}<%= 7*7 %>@(7*7)*{7*7}",
    "$(id)`id`%x%{x}",
    "%(x)s %s {0} {0.__class__} {x!r:>1000000000}",
    r"\1\g<0>\\ \u0001 \x01",
    "<script>alert(1)</script>&amp;",
    "!function_call:",
    '!function_call:{"name": "f"}',
    "]\n[",
    '"}]',
    "\x00\x01\x02\x1b[2J\x7f\x85\u2028\u2029\ufeff\u202e",
    "\x01content\x01",
    "\x01" + "0" * 32 + ":0\x01",
    "\\u0001" + "0" * 32 + ":0\\u0001",
    "\r\n\t\v\f",
    "",
    " ",
    "\n",
    "é😀",
]
LONG = [
    "x" * 100_000,
    "{" * 100_000,
    "{{" + " " * 100_000,
    "{{ " * 33_000,
    "{{func_call_token" * 6_000,
    "{{func_call_token}}" * 5_000,
    "{{ func_call_token" + " " * 100_000 + "}}",
    "{%" * 50_000,
    "\\" * 100_000,
    "\x01" * 100_000,
    "\n" * 100_000,
]


def as_specified(text):
    """Put the call token into a text letter by letter, as the design says it in words."""
    made, at = [], 0
    while at < len(text):
        end = token_end(text, at)
        made.append(text[at] if end is None else T)
        at = at + 1 if end is None else end
    return "".join(made)


def token_end(text, at):
    """Return where the token that begins here ends, None where there is none."""
    if not text.startswith("{{", at):
        return None
    at = past_spaces(text, at + 2)
    if not text.startswith("func_call_token", at):
        return None
    at = past_spaces(text, at + len("func_call_token"))
    return at + 2 if text.startswith("}}", at) else None


def past_spaces(text, at):
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    return at


def hostile():
    """Yield 1,000 pairs of a prefix and a suffix, the same ones every time."""
    chance = random.Random(1)
    for at in range(1000):
        if at < len(LONG):
            yield LONG[at], LONG[-at]
        elif at < len(LONG) + len(SEEDS):
            yield SEEDS[at - len(LONG)], SEEDS[at - len(LONG) - 1]
        else:
            yield tuple("".join(chance.choices(SEEDS, k=chance.randint(1, 6))) for _ in range(2))


def lines(text, *, before):
    return "" if text == "" else f"{text}\n" if before else f"\n{text}"


def processor_time(work):
    began = time.process_time()
    work()
    return time.process_time() - began


def test_no_words_of_a_request_run_anything_or_take_long(toolbox):
    """They are rendered literally, with the call token in its place, within 50 ms of processor time."""
    for at, (prefix, suffix) in enumerate(hostile()):
        kind, choice = (("function_list", "auto"), ("function_list", "required"), ("force_call", "f"))[at % 3]
        words = {"prefix": prefix, "suffix": suffix}
        if at % 2:
            words = {side: {"data": text} if text else text for side, text in words.items()}
        job = CompletionJob.model_validate(
            {
                "model": "m",
                "messages": [{"role": "user", "content": "Hi"}],
                "tools": TOOLS[:1],
                "tool_choice": choice,
                "tool_templates": {kind: words},
            }
        )

        def render(job=job):
            return Plan.of(job, "key", toolbox).body(None)["messages"][0]["content"]

        start, end = lines(as_specified(prefix), before=True), lines(as_specified(suffix), before=False)
        assert render() == f"{start}{BLOCK}{end}\n\nHi"
        assert processor_time(render) < 0.05 or min(processor_time(render) for _ in range(2)) < 0.05


NAMES = st.text(min_size=1, max_size=8) | st.sampled_from(
    ["description", "properties", "data", "variable", "f/~"]
)
DESCRIPTIONS = st.none() | TEXTS | st.fixed_dictionaries({"data": TEXTS | st.integers() | st.booleans()})


@st.composite
def drawn_tools(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    return [{"type": "function", "function": draw(functions(name))} for name in names]


@st.composite
def functions(draw, name):
    function = {"name": name, "description": draw(DESCRIPTIONS)}
    if draw(st.booleans()):
        named = draw(st.dictionaries(NAMES, DESCRIPTIONS, max_size=3))
        function["parameters"] = {
            "type": "object",
            "properties": {name: {"type": "string", **described(text)} for name, text in named.items()},
            "default": draw(VALUES),
        }
    return function


def described(text):
    return {} if text is None else {"description": text}


def plain(value):
    """Return tools with the texts of their Variables."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: shown(item) if key == "description" else plain(item) for key, item in value.items()}


def shown(item):
    if not isinstance(item, dict):
        return item
    if item.keys() == {"data"}:
        data = item["data"]
        return data if isinstance(data, str) else json.dumps(data)
    return plain(item)


WORDS = (
    st.none()
    | st.text(max_size=8)
    | st.sampled_from(SEEDS)
    | st.sampled_from(SEEDS).filter(bool).map(lambda text: {"data": text})
)
CONTENTS = st.sampled_from(
    [
        "",
        "Hi",
        "[",
        ["a", {"type": "image_url"}],
        [{"type": "image_url"}],
        [{"type": "text", "text": "a", "x": 1}],
    ]
)


@given(
    tools=drawn_tools(),
    words=st.tuples(WORDS, WORDS),
    content=CONTENTS,
    position=st.sampled_from(["top", "bottom"]),
    data=st.data(),
)
def test_the_block_is_valid_json_and_rendering_changes_nothing(
    toolbox, tools, words, content, position, data
):
    """Between the brackets, for any words around them; what was given stays as it was."""
    names = [tool["function"]["name"] for tool in tools]
    choice = data.draw(
        st.sampled_from(["auto", "required", {"type": "function", "function": {"name": names[-1]}}])
    )
    given_words = dict(zip(("prefix", "suffix"), words, strict=True))
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": content}],
        "tools": tools,
        "tool_choice": choice,
        "tool_templates": {"function_list": given_words, "force_call": given_words, "position": position},
    }
    before = copy.deepcopy(body)
    plan = Plan.of(CompletionJob.model_validate(body), "key", toolbox)
    drafted = copy.deepcopy(
        (plan.draft.tools, plan.draft.conversation.messages, plan.draft.conversation.parts)
    )
    first = plan.body(None)
    kept = copy.deepcopy(first)
    assert plan.body(None) == first == kept
    assert body == before
    assert (plan.draft.tools, plan.draft.conversation.messages, plan.draft.conversation.parts) == drafted

    expected = [
        {key: plain(tool["function"]).get(key) for key in ("name", "description", "parameters")}
        for tool in (tools if isinstance(choice, str) else tools[-1:])
    ]
    usual = Plan.of(CompletionJob.model_validate({**body, "tool_templates": {}}), "key", toolbox).body(None)
    start, end = sides(usual["messages"][0], content, words)
    block = block_of(first["messages"][0], content, position)
    assert block.startswith(f"{start}[\n")
    assert block.endswith(f"\n]{end}")
    found = block[len(start) : len(block) - len(end)]
    assert json.loads(found) == expected
    assert len(found.split("\n")) == len(expected) + 2


def block_of(message, content, position):
    """Return the block alone, without the content beside it."""
    text, beside = message["content"], content
    if isinstance(content, list):
        at = 0 if position == "top" else -1
        text, beside = text[at]["text"], content[at]
        beside = beside if isinstance(beside, str) else beside.get("text", "")
    elif not content:
        return text
    return text.removesuffix(f"\n\n{beside}") if position == "top" else text.removeprefix(f"{beside}\n\n")


def sides(usual, content, words):
    """Return what stands before and after the brackets: default words where the request has none."""
    start, _, rest = block_of(usual, content, "top").partition("[\n{")
    end = rest.rpartition("}\n]")[2]
    prefix, suffix = (word["data"] if isinstance(word, dict) else word for word in words)
    return (
        start if prefix is None else lines(as_specified(prefix), before=True),
        end if suffix is None else lines(as_specified(suffix), before=False),
    )


# ---- schemas

LEAVES = st.sampled_from(
    [
        True,
        False,
        {},
        {"$ref": "#"},
        {"$ref": "#/$defs/a"},
        {"$ref": "#/$defs/b"},
        {"$ref": "#a"},
        {"$ref": "#/properties/x"},
        {"$ref": "http://127.0.0.1:9/x"},
        {"$ref": "//["},
        {"$ref": "#/%"},
        {"$dynamicRef": "#a"},
        {"$anchor": "a"},
        {"$dynamicAnchor": "a"},
        {"$id": "http://127.0.0.1:9/"},
        {"$id": "#a"},
        {"pattern": "^(a|a)*$"},
        {"pattern": "(?P<x>a)(?P=x)+"},
        {"pattern": "\\p{L}+"},
        {"patternProperties": {"^(x+)+$": False}},
        {"type": ["string", "null"]},
        {"type": "integer"},
        {"enum": [1, 1.0, True, None, {"a": []}]},
        {"const": {"$ref": "#"}},
        {"multipleOf": 1e-300},
        {"multipleOf": 3},
        {"minimum": 10**40},
        {"maxLength": 0},
        {"uniqueItems": True},
        {"required": ["x", "y"]},
        {"dependentRequired": {"x": ["y"]}},
        {"format": "regex"},
        {"minContains": 2, "contains": True},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(
            lambda key, items: {key: items},
            st.sampled_from(["allOf", "anyOf", "oneOf", "prefixItems"]),
            st.lists(inner, min_size=1, max_size=3),
        )
        | st.builds(
            lambda key, item: {key: item},
            st.sampled_from(
                [
                    "not",
                    "if",
                    "items",
                    "additionalProperties",
                    "unevaluatedProperties",
                    "unevaluatedItems",
                    "propertyNames",
                    "contains",
                ]
            ),
            inner,
        )
        | st.builds(
            lambda key, items: {key: items},
            st.sampled_from(["properties", "$defs", "dependentSchemas", "definitions"]),
            st.dictionaries(st.sampled_from(["a", "b", "x", "y"]), inner, max_size=3),
        )
        | st.builds(
            lambda one, other: {
                **(one if isinstance(one, dict) else {}),
                **(other if isinstance(other, dict) else {}),
            },
            inner,
            inner,
        )
    ),
    max_leaves=12,
)
ODD = st.dictionaries(
    st.sampled_from(
        [
            "type",
            "properties",
            "items",
            "$ref",
            "$schema",
            "$id",
            "enum",
            "required",
            "pattern",
            "allOf",
            "multipleOf",
            "$defs",
        ]
    ),
    VALUES | LEAVES,
    max_size=3,
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["a", "b", "x", "y", "xxxxxxxxxxxxxxxxxxxx!"]),
    VALUES | st.sampled_from(["aaaaaaaaaaaaaaaaaaaa!", [1, 1.0], [[]] * 3, 10**30, 1e300]),
    max_size=4,
)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # time may run out inside the collector
@given(document=SCHEMAS.filter(lambda schema: isinstance(schema, dict)) | ODD, arguments=ARGUMENTS)
def test_no_schema_raises_or_takes_long(document, arguments):
    """It is refused, or it says what is wrong with arguments, in a sentence that can be sent."""
    try:
        made = schema_of(json.dumps(document))
    except ValueError as refused:
        told = str(refused)
    else:
        told = made.problem(arguments)
    assert told is None or (told and isinstance(told, str))
    (told or "").encode()
    again = time_of_schema(document, arguments)
    assert again < 1 or min(time_of_schema(document, arguments) for _ in range(2)) < 1


def time_of_schema(document, arguments):
    def work():
        _kept.cache_clear()
        with suppress(ValueError):
            schema_of(json.dumps(document)).problem(arguments)

    return processor_time(work)
