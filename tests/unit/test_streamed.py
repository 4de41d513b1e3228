"""The assembly of a completion from the chunks that spell it, and what is no such chunk."""

import copy
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtalk.runtime.answered import checked
from backtalk.runtime.streamed import Assembly, Broken

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "details": {"cached_tokens": 1}}


def chunk(*choices, **fields):
    return {**HEAD, "choices": list(choices), **fields}


def said(delta, finish=None, index=0, **fields):
    return {"index": index, "delta": delta, "finish_reason": finish, **fields}


def call(index, id=None, name=None, arguments=None, **fields):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    known = {"id": id, "type": "function"} if id else {}
    return {"index": index, **known, "function": function, **fields}


def assembled(*chunks):
    """Return what the chunks spell, which every caller of an endpoint may take for an unstreamed answer."""
    assembly = Assembly()
    for one in chunks:
        assert assembly.add(one) is one
    return checked(assembly.whole(), "openai")


def message(*deltas):
    whole = assembled(*(chunk(said(delta)) for delta in deltas), chunk(said({}, "stop")))
    return whole["choices"][0]["message"]


def broken(*chunks):
    with pytest.raises(Broken) as caught:
        assembled(*chunks)
    return str(caught.value)


def test_chunks_assemble_to_a_completion_shaped_as_if_it_had_not_been_streamed():
    """Deltas are joined, the usage stands at the end, and `object` says what it is now."""
    assert assembled(
        chunk(said({"role": "assistant", "content": "", "refusal": None}, logprobs=None), usage=None),
        chunk(said({"content": "Good "}, logprobs=None), usage=None),
        chunk(said({"content": "day."}, logprobs=None), usage=None),
        chunk(said({}, "stop", logprobs=None), usage=None),
        chunk(usage=USAGE),
    ) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 17,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Good day.", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": USAGE,
    }


def test_choices_are_told_apart_by_their_index():
    """They may take turns, share a chunk and come in any order."""
    whole = assembled(
        chunk(said({"content": "b"}, index=1)),
        chunk(said({"content": "a"}), said({"content": "B"}, index=1)),
        chunk(said({}, "length", index=1), said({"content": "A"}, "stop")),
    )
    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"])
        for choice in whole["choices"]
    ] == [(0, "aA", "stop"), (1, "bB", "length")]


def test_calls_of_tools_are_merged_by_their_index():
    """Names and arguments are joined, ids and types are not, and the index was for the stream alone."""
    assert message(
        {"role": "assistant", "content": None, "tool_calls": [call(1, "c1", "se", "")]},
        {"tool_calls": [call(0, "c0", "look", '{"a'), call(1, "c1", "nd", "{")]},
        {"tool_calls": [call(0, arguments='": 1}'), call(1, arguments="}", extra="x")]},
        {"tool_calls": []},
        {"tool_calls": None},
    ) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}},
            {"id": "c1", "type": "function", "function": {"name": "send", "arguments": "{}"}, "extra": "x"},
        ],
    }


def test_custom_calls_are_merged_as_well():
    """OpenAI's custom tools stream their input like arguments."""
    first = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "run", "input": "pri"}}
    later = {"index": 0, "custom": {"input": "nt()"}}
    assert message({"tool_calls": [first]}, {"tool_calls": [later]})["tool_calls"] == [
        {"id": "c", "type": "custom", "custom": {"name": "run", "input": "print()"}}
    ]


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["a", None, "b"], "ab"),
        (["", "line\r", "\nline"], "line\r\nline"),
        ([None], None),
        ([[{"text": "a"}], [{"text": "b"}]], [{"text": "a"}, {"text": "b"}]),
        ([{"id": "x", "data": "ab"}, {"id": "x", "data": "cd"}], {"id": "x", "data": "abcd"}),
        ([{"deep": {"data": "ab", "none": None}}, {"deep": {"data": "c"}}], {"deep": {"data": "abc", "none": None}}),
        ([1, 2.5], 2.5),
        ([False, True], True),
    ],
    ids=str,
)  # fmt: skip
def test_fields_of_a_message_that_nobody_knows_grow_too(pieces, whole):
    """Texts such as `reasoning_content` are joined, lists are extended, objects grow field by field."""
    assert message(*({"reasoning_content": piece} for piece in pieces))["reasoning_content"] == whole


def test_refusals_are_joined():
    """They are texts like the content."""
    assert message({"refusal": "I "}, {"refusal": "cannot"}) == {
        "role": "assistant",
        "content": None,
        "refusal": "I cannot",
    }


@pytest.mark.parametrize(
    ("roles", "role"), [(["assistant"] * 3, "assistant"), ([None, "", "tool"], "tool"), ([], "assistant")]
)
def test_a_role_is_said_once(roles, role):
    """Some servers repeat it in every chunk, some never say it."""
    assert message(*({"role": role} for role in roles)) == {"role": role, "content": None}


def test_log_probabilities_are_extended():
    """Each chunk has those of its own tokens; null adds nothing."""
    tokens = [{"token": token, "logprob": -0.5, "top_logprobs": []} for token in "abc"]
    whole = assembled(
        chunk(said({"content": "a"}, logprobs={"content": tokens[:1], "refusal": None})),
        chunk(said({"content": "bc"}, logprobs={"content": tokens[1:]})),
        chunk(said({}, "stop", logprobs=None)),
    )
    assert whole["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}


def test_top_fields_are_those_of_the_chunk_that_had_them_first():
    """Also unknown ones; one that says nothing, as in Azure's first chunk, gives way."""
    whole = assembled(
        {"id": "", "created": 0, "model": None, "choices": [], "prompt_filter_results": [1]},
        {"id": "one", "created": 5, "model": "m", "choices": [said({}, "stop")], "service_tier": None},
        {"id": "two", "created": 6, "model": "n", "choices": [], "system_fingerprint": "fp"},
    )
    del whole["choices"]
    assert whole == {
        "id": "one",
        "created": 5,
        "model": "m",
        "prompt_filter_results": [1],
        "service_tier": None,
        "system_fingerprint": "fp",
        "object": "chat.completion",
    }


def test_fields_of_a_choice_are_its_last():
    """A filter's verdict may change; an empty finish reason is none, and takes none back."""
    whole = assembled(
        chunk(said({"content": "a"}, "", filtered={"hate": 1}, stop_reason=None)),
        chunk({"index": 0, "filtered": {"hate": 2}, "stop_reason": 7}),
        chunk(said({}, "stop")),
        chunk(said({}, "")),
        chunk(said({}, None, filtered=None)),
    )
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "a"},
            "finish_reason": "stop",
            "filtered": {"hate": 2},
            "stop_reason": 7,
        }
    ]


@pytest.mark.parametrize(
    ("usages", "fields"),
    [
        ([None, {"a": 1}, {"a": 2}, None], {"usage": {"a": 2}}),
        ([None, {}], {"usage": {}}),
        ([None, None], {}),
        ([], {}),
    ],
)
def test_the_usage_is_the_last_one(usages, fields):
    """Servers that count as they go send it with every chunk; some never do."""
    whole = assembled(chunk(said({}, "stop")), *(chunk(usage=usage) for usage in usages))
    assert {name: whole[name] for name in whole if name == "usage"} == fields


def test_chunks_stay_as_they_came():
    """Who listens may keep them: assembling changes none, and they change no completion."""
    chunks = [
        chunk(said({"x": {"y": ["a"]}, "tool_calls": [call(0, "c", "f", "{")]}, logprobs={"content": [1]})),
        chunk(said({"x": {"y": ["b"]}, "tool_calls": [call(0, arguments="}")]}, logprobs={"content": [2]})),
        chunk(said({}, "stop"), usage={"a": 1}),
    ]
    before = copy.deepcopy(chunks)
    whole = assembled(*chunks)
    assert chunks == before
    assert whole["choices"][0]["message"]["x"] == {"y": ["a", "b"]}


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ([], "it ended without any choice"),
        ([chunk(usage=USAGE)], "it ended without any choice"),
        ([chunk(said({"content": "a"}))], "it ended before choice 0 did"),
        ([chunk(said({"content": "a"}, ""))], "it ended before choice 0 did"),
        ([chunk(said({}, "stop"), said({"content": "b"}, index=1))], "it ended before choice 1 did"),
    ],
)
def test_a_stream_without_an_end_is_broken(chunks, problem):
    """Half an answer is none, however much of it came."""
    assert broken(*chunks) == problem


def nested(depth):
    return json.loads('{"a":' * depth + "1" + "}" * depth)


ODD = {
    "null": None,
    "a text": "chunk",
    "a number": 5,
    "a list": [chunk()],
    "nothing": {},
    "no choices": HEAD,
    "null choices": {**HEAD, "choices": None},
    "choices of an object": {**HEAD, "choices": {"0": said({}, "stop")}},
    "choices of a text": {**HEAD, "choices": "none"},
    "a choice that is null": chunk(None),
    "a choice that is a text": chunk("a"),
    "no index": chunk({"delta": {}, "finish_reason": "stop"}),
    "a negative index": chunk(said({}, index=-1)),
    "a huge index": chunk(said({}, index=10**9)),
    "an index that is true": chunk(said({}, index=True)),
    "an index that is a text": chunk(said({}, index="0")),
    "an index that is NaN": chunk(said({}, index=float("nan"))),
    "a null delta": chunk(said(None)),
    "a delta that is a text": chunk(said("a")),
    "a delta that is a list": chunk(said(["a"])),
    "content that is a list": chunk(said({"content": [{"type": "text"}]})),
    "content that is a number": chunk(said({"content": 5})),
    "a refusal that is an object": chunk(said({"refusal": {}})),
    "a role that is a list": chunk(said({"role": []})),
    "a finish that is an object": chunk(said({}, {"type": "stop"})),
    "log probabilities that are a list": chunk(said({}, logprobs=[1])),
    "calls of an object": chunk(said({"tool_calls": call(0)})),
    "calls of a text": chunk(said({"tool_calls": "look()"})),
    "a call that is a text": chunk(said({"tool_calls": ["look()"]})),
    "a call without an index": chunk(said({"tool_calls": [{"function": {"name": "look"}}]})),
    "a call of a negative index": chunk(said({"tool_calls": [call(-1)]})),
    "a call of a huge index": chunk(said({"tool_calls": [call(10**9)]})),
    "a function that is a text": chunk(said({"tool_calls": [{"index": 0, "function": "look"}]})),
    "a custom that is a list": chunk(said({"tool_calls": [{"index": 0, "custom": []}]})),
    "usage that is a number": chunk(usage=5),
    "usage that is a list": chunk(usage=[5]),
    "NaN": chunk(created=float("nan")),
    "infinity in a delta": chunk(said({"x": [float("inf")]})),
    "NaN in the usage": chunk(usage={"total_tokens": float("nan")}),
    "NaN in log probabilities": chunk(said({}, logprobs={"content": [{"logprob": float("-inf")}]})),
    "half a character": chunk(said({"content": "\ud83d"})),
    "half a character in a name": chunk(said({"\ud83d": "a"})),
    "a deep field": chunk(deep=nested(900)),
    "a deep delta": chunk(said({"deep": nested(900)})),
    "a deep call": chunk(said({"tool_calls": [call(0, deep=nested(900))]})),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_chunk_breaks_the_stream(odd):
    """Whatever an endpoint sends, there is one error, and nothing odd is passed on."""
    assembly = Assembly()
    assembly.add(chunk(said({"content": "a"})))
    with pytest.raises(Broken, match="a chunk "):
        assembly.add(odd)


@pytest.mark.parametrize(("first", "second"), [("a", 1), ("a", {}), ({}, "a"), ([], "a"), (1, "a"), ({}, [])])
def test_a_field_that_changes_its_type_breaks_the_stream(first, second):
    """There is no way to join the two."""
    for delta in ("x", "y"):
        fields = (
            [{delta: first}, {delta: second}]
            if delta == "x"
            else [{"o": {delta: first}}, {"o": {delta: second}}]
        )
        assert broken(*(chunk(said(field)) for field in fields)) == "a field changes its type"  # fmt: skip


def test_what_is_as_deep_as_an_endpoint_may_answer_is_assembled():
    """The depth that JSON is read to without streaming is fine."""
    assert message({"deep": nested(140)}, {"deep": nested(140)})["deep"] == nested(140)


def test_a_long_text_takes_no_more_room_than_itself():
    """A text that was copied for each of its pieces would cost the square of its length."""
    assembly = Assembly()
    piece = chunk(said({"content": "abc"}))
    tracemalloc.start()
    for _ in range(50_000):
        assembly.add(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assembly.add(chunk(said({}, "stop")))
    assert len(assembly.whole()["choices"][0]["message"]["content"]) == 150_000
    assert peak < 10_000_000


# ---- any split of a completion

words = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.sampled_from(["look", "send", "añadir"])
functions = st.fixed_dictionaries({"name": names, "arguments": words})
calls = st.builds(
    lambda at, function: {"id": f"call_{at}", "type": "function", "function": function},
    st.integers(0, 99),
    functions,
)
tokens = st.lists(st.fixed_dictionaries({"token": words, "logprob": st.floats(-9, 0)}), min_size=1, max_size=4)  # fmt: skip
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | words},
    optional={
        "refusal": st.none() | words,
        "reasoning_content": words,
        "tool_calls": st.lists(calls, min_size=1, max_size=3),
    },
)
choices = st.fixed_dictionaries(
    {"message": messages, "finish_reason": st.sampled_from(["stop", "length", "tool_calls"])},
    optional={"logprobs": st.none() | st.fixed_dictionaries({"content": tokens})},
)
completions = st.fixed_dictionaries(
    {
        "id": words.filter(bool),
        "object": st.just("chat.completion"),
        "created": st.integers(1, 10**10),
        "model": words.filter(bool),
        "choices": st.lists(choices, min_size=1, max_size=3),
    },
    optional={"usage": st.just(USAGE), "system_fingerprint": st.none() | words.filter(bool)},
)


def cut(draw, text):
    """Return the pieces of a text, or of a list, cut anywhere."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def spelled_calls(draw, tool_calls):
    for at, one in enumerate(tool_calls):
        function = one["function"]
        name, *names = cut(draw, function["name"])
        yield {"tool_calls": [{"index": at, **one, "function": {"name": name, "arguments": ""}}]}
        for piece in names:
            yield {"tool_calls": [{"index": at, "function": {"name": piece}}]}
        for piece in cut(draw, function["arguments"]):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}


def spelled_choice(draw, index, choice):
    """Return the deltas of a choice, in the order in which they must come."""
    told = choice["message"]
    deltas = [{"role": "assistant"}]
    for name in told.keys() & {"content", "refusal", "reasoning_content"}:
        deltas += [{name: piece} for piece in ([None] if told[name] is None else cut(draw, told[name]))]
    deltas += spelled_calls(draw, told.get("tool_calls", ()))
    pieces = [said(delta, index=index) for delta in deltas]
    if "logprobs" in choice:
        known = choice["logprobs"]
        pieces += [
            said({}, index=index, logprobs={"content": piece} if known else None)
            for piece in cut(draw, known["content"] if known else [])
        ]
    return [*pieces, said({}, choice["finish_reason"], index=index)]


@st.composite
def streams(draw):
    """Return a completion, and chunks that spell it: choices take turns, and share chunks, as they like."""
    whole = draw(completions)
    for index, choice in enumerate(whole["choices"]):
        choice["index"] = index
    waiting = [spelled_choice(draw, choice["index"], choice) for choice in whole["choices"]]
    head = {name: whole[name] for name in whole if name not in ("choices", "usage")}
    chunks = []
    while waiting := [pieces for pieces in waiting if pieces]:
        speakers = draw(st.lists(st.sampled_from(range(len(waiting))), min_size=1, unique=True))
        chunks.append({**head, "object": "chunk", "choices": [waiting[at].pop(0) for at in speakers]})
    if "usage" in whole:
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return whole, chunks


@given(streams())
def test_any_split_of_a_completion_assembles_to_the_same(stream):
    """Where an endpoint cuts, and which choice speaks when, is its own affair."""
    whole, chunks = stream
    assert assembled(*chunks) == whole


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def damaged(draw):
    """Return the chunks of a completion, with anything put in the place of any one of their values."""
    _, chunks = draw(streams())
    chunks = copy.deepcopy(chunks)
    where = draw(st.sampled_from(chunks))
    while True:
        inside = list(where) if isinstance(where, dict) else list(range(len(where)))
        name = draw(st.sampled_from(inside))
        if not (isinstance(where[name], dict | list) and where[name]) or draw(st.booleans()):
            where[name] = draw(json_values)
            return chunks
        where = where[name]


@given(damaged())
def test_damaged_chunks_are_broken_or_a_completion(chunks):
    """There is no third way: what is assembled is always what Backtalk can read, and JSON."""
    try:
        whole = assembled(*chunks)
    except Broken:
        return
    json.dumps(whole, allow_nan=False, ensure_ascii=False).encode()
