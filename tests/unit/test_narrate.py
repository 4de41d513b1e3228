"""Partial output of a job: what its callers get to see while a model speaks."""

import copy

import pytest

from backtalk.runtime.streamed import Assembly
from backtalk.wire.chunk import CompletionChunk
from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Code, Unavailable
from backtalk.wire.kinds import Request
from forward_worker.complete import complete
from forward_worker.narrate import Narrator
from forward_worker.tools.answer import call_id

T = "!function_call:"
LOOK = {"type": "function", "function": {"name": "look"}}
CALL = f'{T}{{"name": "look", "arguments": {{"at": "a }} b"}}}}'
CALLED = {"name": "look", "arguments": '{"at": "a } b"}'}


@pytest.fixture
def streamed(toolbox, job_of):
    """Return what runs a streaming job with a tool: its result and all that it emitted."""

    async def run(model, *messages, key="key-1", **fields):
        emitted = []
        job = job_of(*messages, **{"tools": [LOOK], "stream": True, **fields})
        answer = await complete(Request("1", key, job), model=model, emit=emitted.append, toolbox=toolbox)
        return answer, emitted

    return run


@pytest.fixture
def narrator(plan_of):
    """Return the maker of a narrator, and the list of what it emits."""

    def make(item=0, **fields):
        emitted = []
        plan = plan_of(**{"tools": [LOOK], "stream": True, **fields})
        made = Narrator(plan, item, emitted.append)
        made.begin()
        return made, emitted

    return make


def chunk(content=None, index=0, finish=None, **fields):
    delta = {} if content is None else {"content": content}
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
        **fields,
    }


def told(emitted):
    """Return delta and reason of every chunk."""
    return [(one.choices[0]["delta"], one.choices[0]["finish_reason"]) for one in emitted]


def assembled(emitted, item=0):
    """Return the choices that a caller puts together."""
    assembly = Assembly()
    for one in emitted:
        if one.item == item:
            assembly.add(one.model_dump(mode="json", include={"choices", "usage"}))
    return assembly.whole()["choices"]


def without_errors(choices):
    return [{key: value for key, value in choice.items() if key != "tool_call_errors"} for choice in choices]


# ---- one item


async def test_text_is_emitted_as_it_comes(scripted, streamed):
    """With the role first and the reason last, under the place of its choice."""
    answer, emitted = await streamed(scripted("Hello you"))
    assert told(emitted) == [
        ({"role": "assistant"}, None),
        ({"content": "Hel"}, None),
        ({"content": "lo"}, None),
        ({"content": " you"}, None),
        ({}, "stop"),
    ]
    assert {(one.item, one.choice, one.usage) for one in emitted} == {(0, 0, None)}
    assert len({one.run for one in emitted}) == 1
    assert "".join(one.text for one in emitted) == answer.text


async def test_a_call_is_emitted_whole(scripted, streamed):
    """As the answer has it, in one chunk; no part of it is ever content."""
    answer, emitted = await streamed(scripted(f"Well. {CALL}\n{CALL} Done."))
    calls = answer.completions[0]["choices"][0]["message"]["tool_calls"]
    deltas = [delta for delta, _ in told(emitted)]
    assert deltas[1:5] == [
        {"content": "Wel"},
        {"content": "l."},
        {"tool_calls": [{"index": 0, **calls[0]}]},
        {"tool_calls": [{"index": 1, **calls[1]}]},
    ]
    assert "".join(delta["content"] for delta in deltas[5:-1]) == "\nDone."
    assert told(emitted)[-1] == ({}, "tool_calls")
    assert calls[0] == {"id": call_id("key-1", (0, 0), 0), "type": "function", "function": CALLED}


REPLIES = {
    "text": "Hello",
    "nothing": "",
    "null": None,
    "white space": " \n ",
    "a call": CALL,
    "a call in a fence": f"a\n```json\n{CALL}\n```\nb",
    "calls in a list": f'{T}[{{"name": "look"}}, {{"name": "look"}}]',
    "half a token": f"a {T[:-1]}",
    "a token alone": f"a {T}",
    "a call that is cut off": f"a {CALL[:-1]}",
    "half a fence": "a ``",
    "a call of nobody": f'{T}{{"name": "nobody"}}',
    "a call of nobody after text": f'a {T}{{"name": "nobody"}} b',
    "a call of nobody in a fence": f'a\n```\n{T}{{"name": "nobody"}}\n```\nb',
    "a list of nobodies": f'{T}[{{"name": "nobody"}}, {{"name": "no one"}}]',
    "good and bad calls": f'a {CALL} b {T}oops {T}{{"name": "nobody"}} c {CALL}',
    "a list of good and bad calls": f'a {T}[{{"name": "look"}}, {{"name": "nobody"}}] b',
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("choice", ["auto", "required", "none"])
async def test_what_was_emitted_comes_to_what_is_answered(scripted, streamed, reply, choice):
    """Whoever puts the chunks together has the answer."""
    answer, emitted = await streamed(scripted([reply]), tool_choice=choice)
    (expected,) = without_errors(answer.completions[0]["choices"])
    (made,) = assembled(emitted)
    assert (made["message"]["content"] or None) == (expected["message"]["content"] or None)
    assert made["message"].get("tool_calls") == expected["message"].get("tool_calls")
    assert made["finish_reason"] == expected["finish_reason"]


async def test_the_answer_is_the_same_whether_it_was_streamed_or_not(scripted, streamed):
    """Errors and ids included."""
    for reply in REPLIES.values():
        one, emitted = await streamed(scripted([reply]), stream=True, backtalk={"record": "always"})
        other, silent = await streamed(scripted([reply]), stream=False, backtalk={"record": "always"})
        assert one == other
        assert (len(emitted) > 0, silent) == (True, [])


@pytest.mark.parametrize(
    ("reply", "finish", "reason"),
    [
        (CALL, "stop", "tool_calls"),
        (CALL, "length", "length"),
        ("x", "length", "length"),
        (T, "stop", "stop"),
    ],
)
async def test_the_reason_is_that_of_the_answer(scripted, streamed, reply, finish, reason):
    """Calls are a reason, but for a reply that was cut off."""
    said = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": finish}
    answer, emitted = await streamed(scripted([said]))
    assert told(emitted)[-1] == ({}, reason)
    assert answer.completions[0]["choices"][0]["finish_reason"] == reason


async def test_text_and_reason_in_one_chunk_are_told_apart(narrator):
    """Some servers say both at once; the text comes first."""
    made, emitted = narrator()
    made.hear(chunk(f"a {CALL[:-3]}"))
    made.hear(chunk(CALL[-3:], finish="stop"))
    call = {"id": call_id("work-key", (0, 0), 0), "type": "function", "function": CALLED}
    assert told(emitted) == [
        ({"content": "a"}, None),
        ({"tool_calls": [{"index": 0, **call}]}, None),
        ({}, "tool_calls"),
    ]


async def test_what_is_held_back_is_told_at_the_end(narrator):
    """Before the reason."""
    made, emitted = narrator()
    made.hear(chunk("a !func"))
    assert told(emitted) == [({"content": "a"}, None)]
    made.hear(chunk(finish="length"))
    assert told(emitted)[1:] == [({"content": " !func"}, None), ({}, "length")]


# ---- several


async def test_each_choice_speaks_for_itself(scripted, streamed):
    """In chunks of one choice each."""
    answer, emitted = await streamed(scripted([CALL, "Hello", f"a {CALL}"]), n=3)
    assert assembled(emitted) == answer.completions[0]["choices"]
    assert all([one.choice] == [choice["index"] for choice in one.choices] for one in emitted)


async def test_choices_may_be_mixed_in_a_stream(narrator):
    """What one holds back does not hold back another."""
    made, emitted = narrator(n=2)
    for at in range(len(CALL)):
        both = [{"index": index, "delta": {"content": text}} for index, text in ((0, CALL[at]), (1, "x"))]
        made.hear({"choices": both})
    assert [one.choice for one in emitted] == [*[1] * (len(CALL) - 1), 0, 1]
    assert emitted[-2].choices[0]["delta"]["tool_calls"][0]["function"] == CALLED


async def test_each_item_of_a_batch_speaks_for_itself(scripted, streamed):
    """Under its index, and in a run of its own."""
    model = scripted(lambda body: f"{body['messages'][-1]['content'][-1]} {CALL}")
    answer, emitted = await streamed(model, "{x}", inputs={"x": ["a", "b", "c"]})
    for item in range(3):
        assert assembled(emitted, item) == answer.completions[item]["choices"]
    assert len({one.run for one in emitted}) == len({(one.run, one.item) for one in emitted}) == 3


async def test_a_new_try_is_a_new_run(narrator):
    """What was heard before does not count, held back or not."""
    made, emitted = narrator()
    made.hear(chunk(f"a {CALL[:-1]}"))
    made.begin()
    made.hear(chunk(f"b {CALL}"))
    made.hear(chunk(finish="stop"))
    first, *rest = emitted
    assert first.choices[0]["delta"] == {"content": "a"}
    assert {one.run for one in rest}.isdisjoint({first.run})
    assert len({one.run for one in rest}) == 1
    assert assembled(rest)[0]["message"]["content"] == "b"
    assert assembled(rest)[0]["message"]["tool_calls"][0]["id"] == call_id("work-key", (0, 0), 0)


async def test_an_item_that_fails_has_said_what_it_said(scripted, streamed):
    """The answer tells of the failure."""
    answer, emitted = await streamed(scripted(Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")))
    assert (answer.status, emitted) == ("failed", [])


# ---- what else stands in chunks


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}, 5])
async def test_usage_is_emitted_for_those_who_asked(scripted, streamed, options):
    """In a last chunk without a choice."""
    answer, emitted = await streamed(scripted(CALL), stream_options=options)
    wanted = options == {"include_usage": True}
    told = [(one.choice, one.choices, one.usage) for one in emitted if one.usage is not None]
    assert told == ([(None, [], answer.usage)] if wanted else [])
    assert (emitted[-1].usage is not None) is wanted


async def test_other_fields_of_a_chunk_are_kept(narrator):
    """But for those that say where a chunk belongs."""
    made, emitted = narrator(item=3)
    made.hear(chunk("x", model="m", run="theirs", item=9, choice=9, sequence=9, schema_version=9, text="odd"))
    (one,) = emitted
    assert one.model_extra == {"id": "x", "object": "chat.completion.chunk", "model": "m", "text": "odd"}
    assert (one.item, one.choice, one.sequence, one.schema_version) == (3, 0, 0, 1)
    assert one.run != "theirs"
    assert decode(encode(one), CompletionChunk) == one


@pytest.mark.parametrize(
    "delta",
    [
        {"refusal": "no"},
        {"reasoning_content": "hm"},
        {"role": "assistant"},
        {"tool_calls": [{"index": 0, "id": "theirs"}]},
    ],
    ids=str,
)
async def test_other_fields_of_a_delta_are_told_at_once(narrator, delta):
    """Whatever is held back of the text beside them."""
    made, emitted = narrator()
    made.hear({"choices": [{"index": 0, "delta": {**delta, "content": "!func"}}]})
    assert told(emitted) == [(delta, None)]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{"index": 0}]},
        {"choices": [{"delta": None}]},
        {"usage": {"total_tokens": 1}},
    ],
    ids=str,
)
async def test_a_chunk_that_says_nothing_is_passed_over(narrator, odd):
    """Servers send some to keep a connection open."""
    made, emitted = narrator()
    made.hear(odd)
    assert emitted == []


async def test_chunks_stay_as_they_were_heard(narrator):
    """Somebody else puts the completion together from them."""
    made, _ = narrator()
    for content, finish in ((f"a {CALL}", None), ("b", "stop")):
        heard = chunk(content, finish=finish)
        before = copy.deepcopy(heard)
        made.hear(heard)
        assert heard == before


async def test_calls_of_the_endpoints_own_come_first(scripted, streamed):
    """As in the answer: nobody's are lost, and none share a place."""
    native = {"id": "c", "type": "function", "function": {"name": "h", "arguments": "{}"}}
    for content in (None, "Hello"):
        said = {"role": "assistant", "content": content, "tool_calls": [native]}
        answer, emitted = await streamed(scripted([{"index": 0, "message": said, "finish_reason": "stop"}]))
        (expected,) = answer.completions[0]["choices"]
        (made,) = assembled(emitted)
        assert made["message"]["tool_calls"] == expected["message"]["tool_calls"] == [native]


@pytest.mark.parametrize("order", [["theirs", "text"], ["text", "theirs"]], ids=str)
async def test_calls_of_both_kinds_share_no_place(narrator, order):
    """Whichever comes first in the stream."""
    native = {"index": 0, "id": "theirs", "type": "function", "function": {"name": "h", "arguments": "{}"}}
    deltas = {"theirs": {"tool_calls": [native]}, "text": {"content": f"{CALL} "}}
    made, emitted = narrator()
    for name in order:
        made.hear({"choices": [{"index": 0, "delta": deltas[name]}]})
    made.hear(chunk(finish="stop"))
    calls = assembled(emitted)[0]["message"]["tool_calls"]
    assert sorted(call["function"]["name"] for call in calls) == ["h", "look"]


async def test_what_stands_beside_a_delta_is_told_once(narrator):
    """Log probabilities of a piece that is held back, or that becomes several."""
    made, emitted = narrator()
    for content in ("!func", f"x {CALL} y"):
        made.hear(
            {"choices": [{"index": 0, "delta": {"content": content}, "logprobs": {"content": [content]}}]}
        )
    probabilities = [one.choices[0]["logprobs"] for one in emitted if "logprobs" in one.choices[0]]
    assert probabilities == [{"content": ["!func"]}, {"content": [f"x {CALL} y"]}]
    assert "".join(one.text for one in emitted) == "!funcx\ny"


@pytest.mark.parametrize(
    "fields", [{"tools": None}, {"tool_choice": "none"}, {"backtalk": {"tool_mode": "native"}}], ids=str
)
async def test_where_no_calls_are_read_chunks_are_passed_on(scripted, streamed, fields):
    """Text that looks like a call, and the endpoint's own calls."""
    native = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = {"role": "assistant", "content": CALL, "tool_calls": [native]}
    model = scripted([{"index": 0, "message": said, "finish_reason": "tool_calls"}])
    answer, emitted = await streamed(model, **fields)
    assert assembled(emitted) == answer.completions[0]["choices"]
    assert told(emitted)[1] == ({"content": "!fu"}, None)
    assert answer.completions[0]["choices"][0]["message"] == said
