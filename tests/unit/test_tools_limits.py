"""What senders, models and endpoints may say without limits costs the worker none: time, memory, answers."""

import json
import time

import pytest

from backtalk.injection import inject, with_token
from backtalk.runtime.replies import _fitting
from backtalk.wire.codec import MAX_WIRE_BYTES, decode, encode
from backtalk.wire.errors import MAX_MESSAGE, Code, Refused, TooLarge, invalid
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionResult
from backtalk.wire.kinds import Request
from backtalk.wire.tools import Injected, Rewritten
from backward_worker.case import _flat
from forward_worker.complete import complete
from forward_worker.tools.known import MAX_NAMED, Known
from forward_worker.tools.parse import MAX_CALLS, MAX_PROBLEMS, Reader, read
from forward_worker.tools.schema import schema_of

T = "!function_call:"
F = {"type": "function", "function": {"name": "f"}}
SLOW = schema_of(json.dumps({"properties": {"x": {"pattern": "^(a+)+$"}}}))
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def took(work):
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


# ---- errors


def test_an_error_quotes_no_more_than_people_read():
    """The field it names may have megabytes."""
    assert len(invalid("x", "\U0010ffff" * 1_000_000).error.message) == MAX_MESSAGE + 1


@pytest.mark.parametrize("graph", [None, {"variables": [{"id": "v", "data": "x", "role": "r"}]}])
def test_an_answer_that_fits_nowhere_ends_as_a_bare_failure(graph):
    """Whatever of it is too large: its completions, its metadata, the details of its error."""
    large = "x" * MAX_WIRE_BYTES
    answer = CompletionResult.model_validate(
        {
            "id": "1",
            "status": "completed",
            "completions": [{"a": large}],
            "metadata": {"m": large},
            "graph": graph,
        }
    )
    sent, _ = _fitting(answer, compress=False)
    assert (sent.status, sent.error.code, sent.metadata) == ("failed", Code.PAYLOAD_TOO_LARGE, None)
    failed = CompletionResult.failed("1", Refused(Code.GRAPH_CONFLICT, "no", values=[large]).error, {"m": 1})
    sent, _ = _fitting(failed, compress=False)
    assert (sent.error.code, sent.error.message, sent.error.details) == (Code.GRAPH_CONFLICT, "no", {})


# ---- replies


def test_a_list_that_is_no_call_is_told_once():
    """Not once for each of its items, with the whole of it each time."""
    text = f"{T}[{','.join('1' * 5000)}]"
    reading = read(text, T, Known({}).checking())
    assert (len(reading.problems), reading.content) == (1, text)


def test_problems_are_told_up_to_a_number():
    """And then how many there are more."""
    good = '{"name": "f"}'
    text = f"{T}[{good},{','.join(['{}'] * (MAX_PROBLEMS + 5))}]"
    reading = read(text, T, Known({"f": None}).checking())
    assert len(reading.problems) == MAX_PROBLEMS + 1
    assert "5 more" in reading.problems[-1].fault.detail


def test_more_calls_than_anybody_makes_are_text():
    """Their number is told; reading on would take ever longer."""
    text = f'{T}{{"name":"f"}}\n' * (MAX_CALLS + 3)
    reading = read(text, T, Known({"f": None}).checking())
    assert len(reading.calls) == MAX_CALLS
    assert reading.content.count(T) == 3
    assert str(MAX_CALLS) in reading.problems[-1].fault.detail


def test_all_calls_of_a_reply_share_the_time_for_their_schemas():
    """However many there are of them."""
    call = json.dumps({"name": "f", "arguments": {"x": "a" * 40 + "!"}})
    seconds, reading = took(lambda: read(f"{T}{call}\n" * 60, T, Known({"f": SLOW}).checking()))
    assert (len(reading.calls), seconds < 1.5) == (0, True)


def test_an_unknown_name_lists_some_of_the_known_ones():
    """In a sentence, not in a book."""
    fault = Known(dict.fromkeys(map(str, range(500)))).check({"name": "x" * 10_000})
    assert (fault.detail.count(","), len(fault.detail) < 500) == (MAX_NAMED - 1, True)


async def test_a_model_is_told_each_mistake_once(scripted, toolbox, job_of):
    """A reply may repeat it a thousand times."""
    model = scripted(f'{T}{{"name":"nobody"}}\n' * 1000, f'{T}{{"name":"f"}}')
    job = job_of(tools=[F], backtalk={"tool_retries": 1})
    result = await complete(Request("1", "k", job), model=model, emit=None, toolbox=toolbox)
    assert model.prompts[-1].count("nobody") == 1
    assert result.completions[0]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("text", ["<think>{}</think>", " \n<think>a {} b</think>", "<think>{}"])
def test_nothing_in_a_thought_is_a_call(text):
    """A model may think of a call and not make it."""
    call = f'{T}{{"name":"f"}}'
    thought = text.format(call)
    check = Known({"f": None}).checking
    assert read(thought, T, check()).calls == ()
    assert read(thought, T, check()).content == thought
    for size in (1, 3, 8):
        reader = Reader(T, check())
        pieces = [thought[at : at + size] for at in range(0, len(thought), size)]
        events = [event for piece in pieces for event in reader.feed(piece)] + reader.close()
        assert "".join(events) == thought
    after = read(f"{thought}</think>\n{call}" if "</think>" not in text else f"{thought}\n{call}", T, check())
    assert len(after.calls) == 1


@pytest.mark.parametrize("indices", [[None, None], [1, 1], [1, None]])
async def test_choices_without_numbers_of_their_own_are_numbered_by_place(scripted, toolbox, job_of, indices):
    """Two choices never have calls of one id."""
    said = {"role": "assistant", "content": f'{T}{{"name":"f"}}'}
    model = scripted([{"index": index, "message": said, "finish_reason": "stop"} for index in indices])
    result = await complete(
        Request("1", "k", job_of(tools=[F], n=2)), model=model, emit=None, toolbox=toolbox
    )
    choices = result.completions[0]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert len({choice["message"]["tool_calls"][0]["id"] for choice in choices}) == 2


async def test_an_end_that_says_nothing_is_no_end(toolbox, job_of):
    """Some servers write it into every chunk."""

    class Odd:
        def check(self, endpoint):
            pass

        async def complete(self, endpoint, body, listener=None, *, place):
            text = f'{T}{{"name":"f"}}'
            for at in range(0, len(text), 4):
                delta = {"content": text[at : at + 4]}
                listener.hear({"choices": [{"index": 0, "delta": delta, "finish_reason": ""}]})
            listener.hear({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            raise Refused(Code.UPSTREAM_REJECTED, "enough")

    told = []
    await complete(
        Request("1", "k", job_of(tools=[F], stream=True)), model=Odd(), emit=told.append, toolbox=toolbox
    )
    assert "".join(chunk.text for chunk in told) == ""
    assert [chunk.choices[0]["finish_reason"] for chunk in told] == [None, "tool_calls"]


# ---- graphs and jobs


def test_a_token_that_makes_a_text_too_long_is_refused_before_it_does():
    """The text may ask for it a million times."""
    with pytest.raises(TooLarge):
        with_token("{{func_call_token}}" * 1_000_000, "x" * 256)


def test_a_token_is_a_word():
    """An injection whose token is a book is refused."""
    graph = {"variables": [], "operations": []}
    assert decode(encode(Graph.model_validate(graph)), Graph)
    with pytest.raises(ValueError, match="call_token"):
        Injected(mode="inject", call_token="x" * 257)


def test_thousands_of_answers_are_joined_in_one_go():
    """Each once, not each with all before it."""
    messages = [{"role": "tool", "content": "x" * 100} for _ in range(20_000)]
    rewritten = tuple(Rewritten(message=at, role="user", joined=at > 0) for at in range(len(messages)))
    seconds, (one,) = took(lambda: inject(messages, Injected(mode="inject", messages=rewritten), str))
    assert (len(one["content"]), seconds < 1) == (20_000 * 102 - 2, True)


@pytest.mark.parametrize("part", [{}, {"type": "text"}, {"type": "text", "text": 5}, {"type": "x"}])
def test_odd_parts_are_shown_as_what_they_are(part):
    """Nobody promised that a recorded part is one that OpenAI knows."""
    message = {"role": "user", "content": [part] if part else []}
    rewriting = Rewritten(message=0, before="a", after="b")
    (sent,) = inject([message], Injected(mode="inject", messages=(rewriting,)), str)
    assert _flat(sent).startswith("a")
    assert _flat(sent).endswith("b")


def test_an_object_under_a_word_that_schemas_do_not_have_is_left_alone(plan_of):
    """`description` means something only where JSON Schema has it."""
    parameters = {"type": "object", "x-meta": {"description": {"a": 1}}, "default": {"description": {"b": 2}}}
    plan = plan_of("Hi", tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    assert json.dumps(parameters, separators=(",", ":")) in plan.body(None)["messages"][0]["content"]
