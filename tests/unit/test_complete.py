"""One completion job from start to finish, with a scripted model."""

import asyncio

import pytest

from backtalk.wire.answer import status_of
from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Code, Refused, Stopped, Unavailable
from backtalk.wire.jobs import CompletionJob, CompletionResult
from backtalk.wire.kinds import Request
from forward_worker.complete import complete

DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
REJECTED = Refused(Code.UPSTREAM_REJECTED, "no")
SYSTEM = {"id": "sys", "data": "Be brief.", "role": "instruction", "requires_grad": True}


def request(*contents, **fields):
    messages = [{"role": "user", "content": content} for content in contents or ("Hello",)]
    body = CompletionJob.model_validate({"model": "org/m", "messages": messages, **fields})
    return Request("job-1", "key-1", body)


@pytest.fixture
def result(toolbox):
    """Return what runs a job: `await result(model, "Hello", n=2)`."""

    def run(model, *contents, **fields):
        return complete(request(*contents, **fields), model=model, emit=pytest.fail, toolbox=toolbox)

    return run


async def test_a_plain_openai_body_gets_its_completion(scripted, result):
    """No Variable, no graph: the completion as it came, and its usage."""
    model = scripted("Hi.")
    answer = await result(model, "Hello", temperature=0.5, metadata={"mine": "1"})
    assert (answer.id, answer.status, answer.error) == ("job-1", "completed", None)
    assert answer.texts == ("Hi.",)
    assert (answer.outputs, answer.output, answer.graph) == ((), None, None)
    assert answer.usage == answer.completions[0]["usage"]
    assert model.bodies == [
        {
            "model": "org/m",
            "messages": [{"role": "user", "content": "Hello"}],
            "temperature": 0.5,
            "metadata": {"mine": "1"},
        }
    ]


async def test_arguments_and_native_tools_go_to_the_endpoint_untouched(scripted, result):
    """Backtalk sends what it was sent, and nothing of its own."""
    sent = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x"}},
        "seed": 7,
        "n": 1,
        "stop": None,
        "tools": [{"type": "function", "function": {"name": "f", "description": "{x}"}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "extra_body": {"guided": True},
    }
    model = scripted("fine")
    options = {"metadata": {"a": 1}, "record": "always", "tool_mode": "native"}
    await result(model, **sent, backtalk=options)
    body = dict(model.bodies[0])
    body["tools"] = list(body["tools"])
    assert body == {"model": "org/m", "messages": [{"role": "user", "content": "Hello"}], **sent}


async def test_inputs_are_filled_and_not_sent(scripted, result):
    """The endpoint sees the filled text."""
    model = scripted("Ciao")
    await result(
        model, "Say {word} in {language}, {{word}}.", inputs={"word": "hi", "language": {"data": "Italian"}}
    )
    assert model.prompts == ["Say hi in Italian, {{word}}."]
    assert "inputs" not in model.bodies[0]


@pytest.mark.parametrize(("named", "asked"), [(None, "openai"), ("openai", "openai"), ("local", "local")])
async def test_the_endpoint_is_chosen_by_name_alone(scripted, named, asked, result):
    """A model name with a slash says nothing about the endpoint."""
    model = scripted("fine")
    answer = await result(model, [SYSTEM], backtalk={"endpoint": named} if named else {})
    assert model.asked == [asked]
    assert answer.graph.operations[0].endpoint == asked


async def test_an_unknown_endpoint_is_refused_before_anything_is_asked(scripted, result):
    """No item of a batch is paid for in vain."""
    model = scripted("fine")
    with pytest.raises(Refused, match="backtalk/endpoint"):
        await result(model, "{a}", inputs={"a": ["x", "y"]}, backtalk={"endpoint": "nowhere"})
    assert model.bodies == []


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"inputs": {"unused": "x"}}, "inputs/unused"),
        ({"inputs": {"a": ["x"], "b": ["y", "z"]}}, "inputs/a"),
    ],
    ids=["unused input", "unequal lengths"],
)
async def test_a_job_that_contradicts_itself_is_refused_before_anything_is_asked(
    scripted, fields, path, result
):
    """The mistake is the sender's, and free."""
    model = scripted("fine")
    with pytest.raises(Refused) as caught:
        await result(model, "{a}{b}" if len(fields["inputs"]) > 1 else "x", **fields)
    assert caught.value.error.details["path"] == path
    assert model.bodies == []


async def test_a_recorded_job_names_its_outputs(scripted, result):
    """The graph is the fragment, and the output is what feedback is given on."""
    answer = await result(scripted("Ciao"), [SYSTEM], "Hello")
    assert answer.outputs == answer.graph.operations[0].outputs
    assert answer.output == answer.outputs[0]
    assert answer.graph.index.variables[answer.output].data == "Ciao"
    assert [parameter.id for parameter in answer.graph.parameters()] == ["sys"]
    assert decode(encode(answer), CompletionResult) == answer


@pytest.mark.parametrize(("record", "recorded"), [("always", True), ("auto", False), ("never", False)])
async def test_a_plain_body_is_recorded_only_when_it_asks(scripted, record, recorded, result):
    """`record` decides where there is no Variable."""
    answer = await result(scripted("fine"), backtalk={"record": record})
    assert (answer.graph is not None) is recorded
    assert bool(answer.outputs) is recorded


async def test_never_is_never(scripted, result):
    """Not even a Variable makes a graph then."""
    answer = await result(scripted("fine"), [SYSTEM], backtalk={"record": "never"})
    assert (answer.graph, answer.outputs, answer.output) == (None, (), None)


async def test_metadata_comes_back_unchanged(scripted, result):
    """It is the sender's, and never forwarded."""
    metadata = {"a": [1, 1.0, None, {"b": "c"}]}
    model = scripted("fine")
    answer = await result(model, backtalk={"metadata": metadata})
    assert repr(answer.metadata) == repr(metadata)
    assert "backtalk" not in model.bodies[0]


async def test_a_batch_is_index_aligned(scripted, result):
    """One completion for each item, in the order of the inputs, whatever the order of the replies."""

    class Slow(scripted):
        async def complete(self, endpoint, body, listener=None, *, place):
            place = int(body["messages"][-1]["content"])
            for _ in range(10 - place):
                await asyncio.sleep(0)
            return await super().complete(endpoint, body, listener, place=place)

    model = Slow(lambda body: f"reply to {body['messages'][-1]['content']}")
    answer = await result(model, [{"data": list(range(8))}])
    assert answer.texts == tuple(f"reply to {at}" for at in range(8))
    assert answer.graph.index.variables[answer.output].data == answer.texts
    assert answer.usage["total_tokens"] == 8 * 15


async def test_all_items_of_a_batch_are_asked_at_once(scripted, result):
    """No item waits for another."""
    everyone = asyncio.Barrier(16)

    class Meeting(scripted):
        async def complete(self, endpoint, body, listener=None, *, place):
            await everyone.wait()
            return await super().complete(endpoint, body, listener, place=place)

    async with asyncio.timeout(10):
        answer = await result(Meeting("fine"), "{a}", inputs={"a": ["x"] * 16})
    assert answer.status == "completed"


async def test_a_failing_item_does_not_fail_the_others(scripted, result):
    """Its place holds the error, the output a null, and the answer is partial."""
    model = scripted(lambda body: REJECTED if body["messages"][-1]["content"] == "b" else "fine")
    answer = await result(model, "{a}", inputs={"a": [{"data": "a"}, {"data": "b"}, {"data": "c"}]})
    assert (answer.status, answer.error) == ("partial", None)
    assert answer.completions[1] == {"error": REJECTED.error.model_dump(mode="json")}
    assert answer.graph.index.variables[answer.output].data == ("fine", None, "fine")
    assert answer.usage["total_tokens"] == 30


async def test_a_null_item_is_not_asked(scripted, result):
    """What failed in an earlier job fails here too, and only there."""
    model = scripted("fine")
    answer = await result(model, [{"id": "o", "data": ["x", None, "z"], "producer": "p", "role": "earlier"}])
    assert model.prompts == ["x", "z"]
    assert answer.status == "partial"
    assert answer.completions[1]["error"]["code"] == "invalid_message"
    assert "null" in answer.completions[1]["error"]["message"]
    assert answer.graph.index.variables[answer.output].data == ("fine", None, "fine")


@pytest.mark.parametrize(
    "error", [DOWN, REJECTED, Stopped(Code.CANCELLED, "stopped")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("inputs", ["x", ["x", "y"]], ids=["scalar", "batch"])
async def test_a_job_of_which_nothing_was_done_has_failed(scripted, error, inputs, result):
    """There is no graph, and the error is the first item's."""
    answer = await result(scripted(error), "{a}", inputs={"a": inputs}, backtalk={"record": "always"})
    assert (answer.status, answer.error) == ("failed", error.error)
    assert (answer.graph, answer.outputs, answer.usage) == (None, (), {})


async def test_several_choices_are_several_outputs(scripted, result):
    """One variable for each."""
    model = scripted(["one", "two", "three"])
    answer = await result(model, [SYSTEM], n=3)
    assert model.bodies[0]["n"] == 3
    data = [answer.graph.index.variables[output].data for output in answer.outputs]
    assert data == ["one", "two", "three"]
    assert answer.output == answer.outputs[0]


async def test_outputs_follow_the_index_of_the_choices(scripted, result):
    """An endpoint may list its choices in any order; their index says which is which."""
    choices = [
        {"index": 1, "message": {"role": "assistant", "content": "second"}, "finish_reason": "stop"},
        {"index": 0, "message": {"role": "assistant", "content": "first"}, "finish_reason": "stop"},
    ]
    answer = await result(scripted(choices), [SYSTEM], n=2)
    assert [answer.graph.index.variables[output].data for output in answer.outputs] == ["first", "second"]


async def test_a_native_tool_call_is_on_the_tape(scripted, result):
    """A reply without text still is a reply."""
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "tool_calls": [called]},
        "finish_reason": "tool_calls",
    }
    answer = await result(
        scripted([choice]),
        [SYSTEM],
        tools=[{"type": "function", "function": {"name": "f"}}],
        backtalk={"tool_mode": "native"},
    )
    assert answer.completions[0]["choices"] == [choice]
    assert answer.graph.index.variables[answer.output].data == '{"arguments":"{}","name":"f"}'


async def test_a_repeat_of_a_job_gives_the_same_ids(scripted, result):
    """Whatever the model said this time, a caller sees the same names."""
    one, other = [
        await result(scripted(said), [SYSTEM], "{a}", inputs={"a": ["x", "y"]}) for said in ("a", "b")
    ]
    assert one.outputs == other.outputs
    assert [v.id for v in one.graph.variables] == [v.id for v in other.graph.variables]


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([False], "completed"),
        ([True], "failed"),
        ([False, True], "partial"),
        ([True, True], "failed"),
        ([], "completed"),
    ],
)
def test_the_status_says_how_much_was_done(failures, expected):
    """All, some, or nothing."""
    assert status_of(anything=not all(failures), failures=any(failures)) == expected
