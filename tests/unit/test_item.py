"""One item of a job with tools: asked, read, and asked again where its calls cannot be used."""

import asyncio

import pytest

from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Code, Refused, Stopped, Unavailable
from backtalk.wire.jobs import CompletionResult
from backtalk.wire.kinds import Request
from forward_worker.complete import complete
from forward_worker.tools.answer import call_id

T = "!function_call:"
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"properties": {"at": {"type": "integer"}}, "required": ["at"]},
    },
}
GOOD = f'{T}{{"name": "look", "arguments": {{"at": 1}}}}'
BAD = f'{T}{{"name": "look", "arguments": {{"at": "x"}}}}'
NOBODY = f'{T}{{"name": "nobody"}}'
CALLED = {"name": "look", "arguments": '{"at": 1}'}
DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")


@pytest.fixture
def result(toolbox, job_of):
    """Return what runs a job with a tool: `await result(model, "Hello", retries=2)`."""

    def run(model, *messages, retries=0, record="always", **fields):
        options = {"record": record, "tool_retries": retries}
        job = job_of(*messages, tools=[LOOK], backtalk=options, **fields)
        return complete(Request("job-1", "key-1", job), model=model, emit=pytest.fail, toolbox=toolbox)

    return run


def choices(answer, item=0):
    return answer.completions[item]["choices"]


def called(choice):
    return [call["function"] for call in choice["message"].get("tool_calls", ())]


def reasons(choice):
    return [error["reason"] for error in choice.get("tool_call_errors", ())]


def turns(answer):
    return answer.graph.operations[0].injected.turns


def outputs(answer):
    return [answer.graph.index.variables[id].data for id in answer.outputs]


async def test_a_call_is_read_out_of_the_reply(scripted, result):
    """The answer has it as OpenAI would, and the tape has the reply as it came."""
    answer = await result(scripted(f"Well.\n{GOOD}"))
    (choice,) = choices(answer)
    assert (choice["message"]["content"], called(choice)) == ("Well.", [CALLED])
    assert choice["finish_reason"] == "tool_calls"
    assert "tool_call_errors" not in choice
    assert outputs(answer) == [f"Well.\n{GOOD}"]
    assert answer.texts == ("Well.",)
    assert (answer.usage["total_tokens"], turns(answer)) == (15, ())
    assert decode(encode(answer), CompletionResult) == answer


async def test_a_reply_that_was_cut_off_says_so(scripted, result):
    """Its calls are taken nevertheless."""
    cut = {
        "index": 0,
        "message": {"role": "assistant", "content": f"{GOOD}\n{BAD[:-2]}"},
        "finish_reason": "length",
    }
    (choice,) = choices(await result(scripted([cut])))
    assert (choice["finish_reason"], called(choice), reasons(choice)) == ("length", [CALLED], ["not_json"])


@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("finish", ["stop", "length"])
async def test_a_reply_without_a_word_is_no_failure(scripted, result, content, finish):
    """It only says nothing."""
    silent = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    answer = await result(scripted([silent]))
    assert choices(answer) == [silent]
    assert outputs(answer) == [""]


async def test_where_no_tool_may_be_called_nothing_is_read(scripted, result):
    """What looks like a call is text then."""
    answer = await result(scripted(GOOD), tool_choice="none", retries=3)
    (choice,) = choices(answer)
    assert (choice["message"]["content"], choice["finish_reason"]) == (GOOD, "stop")


async def test_only_the_named_function_may_be_called(scripted, toolbox, job_of):
    """The model was shown no other."""
    other = {"type": "function", "function": {"name": "other"}}
    job = job_of(tools=[LOOK, other], tool_choice="other")
    model = scripted(f'{GOOD}\n{T}{{"name": "other"}}')
    answer = await complete(Request("1", "k", job), model=model, emit=pytest.fail, toolbox=toolbox)
    (choice,) = choices(answer)
    assert [call["name"] for call in called(choice)] == ["other"]
    assert choice["tool_call_errors"][0]["detail"] == "there is no function 'look'; there is other"


@pytest.mark.parametrize("choice", ["required", "look", {"type": "function", "function": {"name": "look"}}])
async def test_a_demanded_call_that_is_not_there_is_told(scripted, result, choice):
    """It is no failure: there is a reply."""
    answer = await result(scripted("No."), tool_choice=choice)
    (only,) = choices(answer)
    assert (answer.status, only["message"]["content"], reasons(only)) == ("completed", "No.", ["no_call"])


# ---- asked again


async def test_by_default_nothing_is_asked_again(scripted, result):
    """Whatever is wrong is told beside the choice."""
    model = scripted(BAD, GOOD)
    (choice,) = choices(await result(model))
    assert (len(model.bodies), called(choice), reasons(choice)) == (1, [], ["bad_arguments"])
    assert choice["message"]["content"] == BAD


async def test_a_good_reply_is_not_asked_for_again(scripted, result):
    """However often it might have been."""
    model = scripted(GOOD, "never")
    answer = await result(model, retries=10)
    assert (len(model.bodies), turns(answer)) == (1, ())


async def test_the_model_is_asked_again_with_what_was_wrong(scripted, result):
    """Its reply and the problem stand at the end of the conversation; the rest is sent as before."""
    model = scripted(BAD, GOOD)
    answer = await result(model, "Hello", retries=1, temperature=0, seed=7)
    first, second = model.bodies
    *before, said, told = second["messages"]
    assert before == first["messages"]
    assert said == {"role": "assistant", "content": BAD}
    assert told["role"] == "user"
    assert "- the arguments of look do not fit: at: 'x' is not of type 'integer'\n" in told["content"]
    assert told["content"].endswith(
        f'{T}{{"name": "name_of_the_function", "arguments": {{"name_of_a_parameter": "its value"}}}}'
    )
    assert {**second, "messages": None} == {**first, "messages": None}
    (choice,) = choices(answer)
    assert (called(choice), reasons(choice)) == ([CALLED], [])


async def test_the_turns_are_recorded_and_all_usage_is_counted(scripted, result):
    """The output is the last reply; the earlier ones and what was said to them stand in the operation."""
    answer = await result(scripted("Hm.", NOBODY, f"Ah. {GOOD}"), tool_choice="required", retries=5)
    assert outputs(answer) == [f"Ah. {GOOD}"]
    one, two = turns(answer)
    assert (one.sample, one.choice, one.reply) == (None, 0, "Hm.")
    assert "a call was demanded, and there is none" in one.told
    assert (two.reply, "there is no function 'nobody'" in two.told) == (NOBODY, True)
    assert answer.usage == {"prompt_tokens": 30, "completion_tokens": 15, "total_tokens": 45}
    assert answer.completions[0]["usage"] == answer.usage
    assert decode(encode(answer), CompletionResult) == answer


@pytest.mark.parametrize("retries", [1, 2, 3])
async def test_a_model_is_asked_at_most_so_often(scripted, result, retries):
    """Its last reply is the answer, with what is wrong with it."""
    model = scripted(BAD)
    answer = await result(model, retries=retries)
    assert len(model.bodies) == len(turns(answer)) + 1 == retries + 1
    assert reasons(choices(answer)[0]) == ["bad_arguments"]
    assert [message["role"] for message in model.bodies[-1]["messages"]] == [
        "user",
        *["assistant", "user"] * retries,
    ]
    assert answer.usage["total_tokens"] == 15 * (retries + 1)


async def test_a_reply_without_a_word_is_not_repeated(scripted, result):
    """Endpoints refuse messages that are empty."""
    model = scripted("", GOOD)
    answer = await result(model, tool_choice="required", retries=1)
    assert [message["role"] for message in model.bodies[1]["messages"]] == ["user", "user"]
    assert [turn.reply for turn in turns(answer)] == [""]


async def test_a_call_that_the_endpoint_made_by_itself_is_one(scripted, result):
    """It was demanded, and it is there."""
    native = {"id": "theirs", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [native]}
    model = scripted([{"index": 0, "message": message, "finish_reason": "tool_calls"}], "never")
    answer = await result(model, tool_choice="required", retries=1)
    assert (len(model.bodies), choices(answer)[0]["message"]) == (1, message)


async def test_every_problem_of_a_reply_is_told(scripted, result):
    """Good calls beside bad ones are asked for again with them."""
    model = scripted(f"{GOOD}\n{BAD}\n{NOBODY}", f"{GOOD}\n{GOOD}")
    answer = await result(model, retries=1)
    told = model.bodies[1]["messages"][-1]["content"]
    assert told.count("\n- ") == 2
    assert "Write the calls again" in told
    assert called(choices(answer)[0]) == [CALLED, CALLED]


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        Refused(Code.UPSTREAM_REJECTED, "no"),
        Stopped(Code.CANCELLED, "stopped"),
        Refused(Code.DEADLINE_EXCEEDED, "late"),
    ],
    ids=lambda error: error.error.code,
)
async def test_a_failing_retry_keeps_what_is_there(scripted, result, error):
    """It is paid for: the reply is answered with what is wrong with it."""
    model = scripted(BAD, error)
    answer = await result(model, retries=3)
    (choice,) = choices(answer)
    assert (answer.status, answer.error, len(model.bodies)) == ("completed", None, 2)
    assert (choice["message"]["content"], reasons(choice)) == (BAD, ["bad_arguments"])
    assert (outputs(answer), turns(answer), answer.usage["total_tokens"]) == ([BAD], (), 15)


async def test_a_retry_that_fails_late_keeps_the_last_reply(scripted, result):
    """And the turn that led to it."""
    answer = await result(scripted(BAD, f"Sorry. {NOBODY}", DOWN), retries=3)
    (choice,) = choices(answer)
    assert (outputs(answer), reasons(choice)) == ([f"Sorry. {NOBODY}"], ["unknown_tool"])
    assert ([turn.reply for turn in turns(answer)], answer.usage["total_tokens"]) == ([BAD], 30)


async def test_a_first_call_that_fails_is_a_failure(scripted, result):
    """There is nothing to keep."""
    answer = await result(scripted(DOWN), retries=3)
    assert (answer.status, answer.error, answer.usage) == ("failed", DOWN.error, {})


# ---- several choices, several items


async def test_each_choice_has_its_own_calls(scripted, result):
    """With ids that differ, and the index it had."""
    answer = await result(scripted([GOOD, "No.", f"{BAD}{GOOD}"]), n=3)
    assert [called(choice) for choice in choices(answer)] == [[CALLED], [], [CALLED]]
    assert [reasons(choice) for choice in choices(answer)] == [[], [], ["bad_arguments"]]
    assert [choice["finish_reason"] for choice in choices(answer)] == ["tool_calls", "stop", "tool_calls"]
    ids = [call["id"] for choice in choices(answer) for call in choice["message"].get("tool_calls", ())]
    assert ids == [call_id("key-1", (0, index), 0) for index in (0, 2)]
    assert outputs(answer) == [GOOD, "No.", f"{BAD}{GOOD}"]


async def test_only_the_choices_with_problems_are_asked_again(scripted, result):
    """Each for itself, for one choice, and in its own place."""

    def reply(body):
        if len(body["messages"]) == 1:
            return [GOOD, BAD, NOBODY]
        return f"{GOOD} to {body['messages'][1]['content']}"

    model = scripted(reply)
    answer = await result(model, n=3, retries=1)
    assert [choice["index"] for choice in choices(answer)] == [0, 1, 2]
    assert [called(choice) for choice in choices(answer)] == [[CALLED]] * 3
    assert model.bodies[0]["n"] == 3
    assert all("n" not in body for body in model.bodies[1:])
    assert outputs(answer) == [GOOD, f"{GOOD} to {BAD}", f"{GOOD} to {NOBODY}"]
    assert sorted((turn.choice, turn.reply) for turn in turns(answer)) == [(1, BAD), (2, NOBODY)]
    assert answer.usage["total_tokens"] == 45
    ids = [choice["message"]["tool_calls"][0]["id"] for choice in choices(answer)]
    assert ids == [call_id("key-1", (0, index), 0) for index in (0, 1, 2)]


async def test_choices_keep_their_index_whatever_their_order(scripted, result):
    """An endpoint may list them in any."""
    told = [
        {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for at, text in ((1, "No."), (0, GOOD))
    ]
    answer = await result(scripted(told), n=2)
    assert [called(choice) for choice in choices(answer)] == [[CALLED], []]
    assert outputs(answer) == [GOOD, "No."]


async def test_the_choices_of_an_item_are_asked_again_at_once(scripted, result):
    """None waits for another."""
    everyone = asyncio.Barrier(4)

    class Meeting(scripted):
        async def complete(self, endpoint, body, listener=None, *, place):
            if len(body["messages"]) > 1:
                await everyone.wait()
            return await super().complete(endpoint, body, listener, place=place)

    async with asyncio.timeout(10):
        answer = await result(Meeting([BAD] * 4, GOOD), n=4, retries=1)
    assert answer.usage["total_tokens"] == 75


async def test_each_item_of_a_batch_is_asked_again_for_itself(scripted, result):
    """With its own values, and its own place in the turns."""

    def reply(body):
        text = body["messages"][0]["content"]
        if text.endswith("c"):
            return DOWN
        return GOOD if text.endswith("a") or len(body["messages"]) > 1 else f"{BAD} {text[-1]}"

    model = scripted(reply)
    answer = await result(model, "{x}", inputs={"x": ["a", "b", "c", "d"]}, retries=2)
    assert answer.status == "partial"
    assert [called(choices(answer, item)[0]) for item in (0, 1, 3)] == [[CALLED]] * 3
    assert answer.completions[2]["error"]["code"] == "upstream_unavailable"
    assert [(turn.sample, turn.choice, turn.reply) for turn in turns(answer)] == [
        (1, 0, f"{BAD} b"),
        (3, 0, f"{BAD} d"),
    ]
    assert answer.graph.index.variables[answer.output].data == (GOOD, GOOD, None, GOOD)
    assert [answer.completions[item]["usage"]["total_tokens"] for item in (0, 1, 3)] == [15, 30, 30]
    assert answer.usage["total_tokens"] == 75
    ids = [choices(answer, item)[0]["message"]["tool_calls"][0]["id"] for item in (0, 1, 3)]
    assert ids == [call_id("key-1", (item, 0), 0) for item in (0, 1, 3)]


async def test_a_job_that_is_not_recorded_is_asked_again_as_well(scripted, result):
    """The tape is for those who want gradients."""
    answer = await result(scripted(BAD, GOOD), retries=1, record="never")
    assert (answer.graph, called(choices(answer)[0]), answer.usage["total_tokens"]) == (None, [CALLED], 30)


async def test_usage_with_details_is_summed_in_all_its_parts(scripted, result):
    """As endpoints report it."""

    class Detailed(scripted):
        async def complete(self, endpoint, body, listener=None, *, place):
            completion = await super().complete(endpoint, body, listener, place=place)
            completion.body["usage"] = {"total_tokens": 2, "details": {"cached": 1, "note": "x"}}
            return completion

    answer = await result(Detailed(BAD, BAD, GOOD), retries=2)
    assert answer.usage == {"total_tokens": 6, "details": {"cached": 3}}
    assert answer.completions[0]["usage"] == answer.usage


async def test_a_repeat_of_a_job_gives_its_calls_the_same_ids(scripted, result):
    """Whoever waits for the result of a call finds it again."""
    one, other = [choices(await result(scripted(said), retries=1)) for said in (GOOD, f"Hm. {GOOD}")]
    assert one[0]["message"]["tool_calls"] == other[0]["message"]["tool_calls"]


@pytest.mark.parametrize("key", ["\\ud800", "a"])
async def test_what_a_model_writes_can_always_be_sent_on(scripted, toolbox, job_of, key):
    """Also half a character, in what it is told and in the answer."""
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"additionalProperties": {"type": "string"}}},
    }
    job = job_of(tools=[tool], backtalk={"tool_retries": 1, "record": "always"})
    model = scripted(
        f'{T}{{"name": "f", "arguments": {{"{key}": 5}}}}',
        f'{T}{{"name": "f", "arguments": {{"{key}": "x"}}}}',
    )
    answer = await complete(Request("1", "k", job), model=model, emit=pytest.fail, toolbox=toolbox)
    model.bodies[1]["messages"][-1]["content"].encode()
    assert decode(encode(answer), CompletionResult) == answer
    assert len(called(choices(answer)[0])) == 1
