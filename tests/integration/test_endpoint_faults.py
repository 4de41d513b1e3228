"""What the workers do when the endpoint fails: again at once, later from a rung, or a clear answer."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from backtalk.local.broker import free_ports
from backtalk.runtime.settings import EndpointSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = {"id": "prompt", "data": "Be kind.", "role": "system prompt", "requires_grad": True}
STYLE = {"id": "style", "data": "Be brief.", "role": "style", "requires_grad": True}
ANSWER = {"id": "answer", "data": "No.", "role": "answer", "producer": "op"}
# how a backward prompt shows the one variable it asks about
ABOUT = 'kind="variable">\n'
SAID = [{"id": "f1", "variable": "answer", "text": "Be friendlier."}]


def operation(*reads, writes="answer", id="op"):
    messages = [{"role": "user", "content": list(reads)}]
    return {"id": id, "op": "chat_completion", "endpoint": "openai", "model": "m", "messages": messages, "outputs": [writes]}  # fmt: skip


def criticism(*variables, **fields):
    """Return feedback on an answer to these variables."""
    reads = [variable["id"] for variable in variables]
    graph = {"variables": [*variables, ANSWER], "operations": [operation(*reads)]}
    return {"graph": graph, "feedback": SAID, **fields}


def reply(content, **choice):
    message = {"role": "assistant", "content": content, **choice.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    return json.dumps({"choices": [choice], "usage": {"total_tokens": 1}})


# ---- again at once


async def test_a_hiccup_is_overcome_in_process(pair, job):
    """One 503 costs a moment, not a rung: one answer, of attempt 0."""
    pair.model.rule(times=1, status=503)
    answer = await pair.ask(job())
    assert (answer.json["status"], answer.headers["x-backtalk-attempt"]) == ("completed", 0)
    assert [call.status for call in pair.model.calls] == [503, 200]


@pytest.mark.parametrize("fault", [{"status": 408}, {"status": 409}, {"status": 502}, {"cut": True}, {"body": "<html>"}, {"body": '{"choices": [], "object": "x"}'}])  # fmt: skip
async def test_what_may_pass_is_tried_again(pair, job, fault):
    """Transient statuses, a cut connection and a body that is no completion may be one server's hiccup."""
    pair.model.rule(times=1, **fault)
    assert (await pair.ask(job())).json["status"] == "completed"
    assert pair.model.total == 2


async def test_a_short_retry_after_is_waited_for_in_process(pair, job):
    """What the endpoint asks for up to 5 s is kept to exactly."""
    pair.model.rule(times=1, status=429, retry_after=1.2)
    began = time.monotonic()
    answer = await pair.ask(job())
    assert time.monotonic() - began >= 1.2
    assert (answer.json["status"], answer.headers["x-backtalk-attempt"]) == ("completed", 0)
    assert pair.model.total == 2


async def test_waiting_for_one_job_holds_no_other_up(stage, job):
    """The pause between two tries is outside the gate, also where the endpoint takes one call at a time."""
    await stage.worker("forward", model_concurrency=1)
    stage.model.rule(match="throttled", times=1, status=429, retry_after=1)
    mailbox = await stage.mailbox()
    await stage.send(job("throttled"), message_id="throttled", reply_to=mailbox)
    await stage.calls(1)
    await stage.send(job("quick"), message_id="quick", reply_to=mailbox)
    assert [(await stage.take(mailbox)).json["id"] for _ in range(2)] == ["quick", "throttled"]


# ---- later, from a rung


async def test_a_job_that_nobody_could_do_waits_on_a_rung(pair, job):
    """After three failures in process it is republished under its id with the next attempt, and not answered."""
    pair.model.rule(times=3, status=500)
    mailbox = await pair.mailbox()
    body = job(backtalk={"metadata": {"a": 1}})
    headers = {"traceparent": "00-1-2-01", "tracestate": "s", "x-backtalk-own": "mine", "x-other": "theirs"}
    kept = {"message_id": "m", "correlation_id": "c", "reply_to": mailbox, "type": "completion.job.v1"}
    await pair.send(body, **kept, headers=headers, app_id="theirs", user_id="guest", priority=3)
    waiting = await pair.take(pair.names.rung("forward", "5s"))
    assert {name: getattr(waiting.message, name) for name in kept} == kept
    ours = {name: value for name, value in waiting.headers.items() if name != "x-delivery-count"}
    assert ours == {
        "traceparent": "00-1-2-01",
        "tracestate": "s",
        "x-backtalk-own": "mine",
        "x-backtalk-attempt": 1,
    }
    assert (waiting.message.app_id, waiting.message.user_id) == (None, None)
    assert waiting.message.delivery_mode == 2
    assert waiting.json == body
    assert pair.model.total == 3
    assert [await pair.depth(queue) for queue in (mailbox, pair.names.work("forward"))] == [0, 0]


async def test_a_job_comes_back_from_its_rung_and_is_done(pair, job):
    """After the rung's five seconds it is tried again and answered as attempt 1."""
    pair.model.rule(times=3, status=500)
    mailbox = await pair.mailbox()
    began = time.monotonic()
    await pair.send(job(), message_id="m", reply_to=mailbox)
    answer = await pair.take(mailbox)
    assert time.monotonic() - began >= 5
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")
    assert answer.headers["x-backtalk-attempt"] == 1
    assert [call.status for call in pair.model.calls] == [500, 500, 500, 200]


async def test_rungs_grow_with_the_attempts_until_they_are_spent(pair, job):
    """5 s, 30 s, 2 min, 10 min, and then the sender is told."""
    pair.model.rule(status=500)
    mailbox = await pair.mailbox()
    for attempt in range(5):
        headers = {"x-backtalk-attempt": attempt}
        await pair.send(job(), message_id=f"attempt {attempt}", headers=headers, reply_to=mailbox)
    for attempt, rung in enumerate(["5s", "30s", "2m", "10m"]):
        waiting = await pair.take(pair.names.rung("forward", rung))
        assert (waiting.id, waiting.headers["x-backtalk-attempt"]) == (f"attempt {attempt}", attempt + 1)
    answer = await pair.take(mailbox)
    assert (answer.json["id"], answer.json["status"]) == ("attempt 4", "failed")
    assert (answer.error["code"], answer.error["retryable"]) == ("upstream_unavailable", True)
    assert await pair.depth(mailbox) == 0


@pytest.mark.parametrize(("seconds", "rung"), [(20, "30s"), (100, "2m"), (86400, "10m")])
async def test_a_long_retry_after_is_waited_for_on_a_rung(pair, job, seconds, rung):
    """The shortest rung that is long enough takes the job, after one call."""
    pair.model.rule(status=429, retry_after=seconds)
    await pair.send(job(), message_id="m")
    waiting = await pair.take(pair.names.rung("forward", rung))
    assert (waiting.id, waiting.headers["x-backtalk-attempt"]) == ("m", 1)
    assert pair.model.total == 1


async def test_an_old_message_is_answered_rather_than_tried_again(pair, job):
    """Older than a day by its sender's clock, nobody waits for it any more."""
    pair.model.rule(status=429, retry_after=20)
    answer = await pair.ask(job(), timestamp=datetime.now(UTC) - timedelta(days=1, hours=1))
    assert (answer.json["status"], answer.error["code"]) == ("failed", "upstream_unavailable")


async def test_feedback_waits_on_a_rung_of_its_own(stage):
    """The backward worker has the same ladder."""
    await stage.worker("backward")
    stage.model.rule(status=429, retry_after=20)
    await stage.send(criticism(PROMPT, STYLE), role="backward", message_id="m")
    waiting = await stage.take(stage.names.rung("backward", "30s"))
    assert (waiting.id, waiting.headers["x-backtalk-attempt"]) == ("m", 1)


# ---- answers


@pytest.mark.parametrize(
    "fault",
    [
        *({"status": status} for status in (400, 404, 413, 422)),
        {"status": 429, "code": "insufficient_quota"},
    ],
    ids=lambda fault: fault.get("code", str(fault["status"])),
)
async def test_a_rejection_is_final(pair, job, fault):
    """The endpoint's own words reach the sender after a single call."""
    pair.model.rule(**fault)
    answer = await pair.ask(job())
    assert (answer.json["status"], answer.error["code"]) == ("failed", "upstream_rejected")
    assert answer.error["details"]["status"] == fault["status"]
    assert answer.error["details"]["endpoint"] == "openai"
    assert f"A rule asked for this answer {fault['status']}" in answer.error["message"]
    assert not answer.error["retryable"]
    assert pair.model.total == 1


@pytest.mark.parametrize(
    "body",
    ["<html>Welcome</html>", "", "[]", '{"object": "list"}', '{"choices": []}', '{"choices": [{"message": null}]}', reply("x").replace("1}", "NaN}")],
)  # fmt: skip
async def test_a_200_that_is_no_completion_is_asked_for_twice(pair, job, body):
    """Then the endpoint is not what it should be, and its base URL is the likely cause."""
    pair.model.rule(body=body, content_type="text/html")
    answer = await pair.ask(job())
    assert (answer.json["status"], answer.error["code"]) == ("failed", "upstream_rejected")
    assert "base URL" in answer.error["message"]
    assert pair.model.total == 2


async def test_jobs_whose_attempts_are_spent_are_answered(stage, job):
    """The sender learns which endpoint failed and how, after three calls; the class tells a silent one from others."""
    (port,) = free_ports(1)
    endpoints = {
        "openai": EndpointSettings(base_url=stage.model.base_url),
        "closed": EndpointSettings(base_url=f"http://127.0.0.1:{port}/v1"),
    }
    await stage.worker("forward", max_attempts=1, model_timeout_seconds=0.3, endpoints=endpoints)
    stage.model.rule(match="down", status=503)
    stage.model.rule(match="cut", cut=True)
    stage.model.rule(match="stalled", stall=True)
    expected = {
        "down": ("upstream_unavailable", "answered 503"),
        "cut": ("upstream_unavailable", "check that it runs"),
        "closed": ("upstream_unavailable", "check that it runs and its base URL"),
        "stalled": ("upstream_timeout", "did not answer in time"),
    }
    mailbox = await stage.mailbox()
    for name in expected:
        endpoint = "closed" if name == "closed" else "openai"
        options = {"endpoint": endpoint, "metadata": {"a": 1}}
        await stage.send(job(name, backtalk=options), message_id=name, reply_to=mailbox)
    answers = {answer.json["id"]: answer for answer in [await stage.take(mailbox) for _ in expected]}
    for name, (code, words) in expected.items():
        answer = answers[name]
        assert (answer.json["status"], answer.error["code"], answer.error["retryable"]) == (
            "failed",
            code,
            True,
        )
        assert words in answer.error["message"]
        assert answer.error["details"]["endpoint"] == ("closed" if name == "closed" else "openai")
        assert answer.json["metadata"] == {"a": 1}
    assert stage.model.total == 3 * 3


async def test_a_stalled_job_ends_at_its_budget(stage, job):
    """The budget covers all tries together, and says which setting it is."""
    await stage.worker("forward", max_attempts=1, job_budget_seconds=0.5)
    stage.model.rule(stall=True)
    began = time.monotonic()
    answer = await stage.ask(job(), patience=5)
    assert (answer.json["status"], answer.error["code"]) == ("failed", "upstream_timeout")
    assert "BACKTALK_JOB_BUDGET_SECONDS" in answer.error["message"]
    assert stage.model.total == 1
    assert time.monotonic() - began < 3


async def test_a_budget_that_ends_unpaid_earns_another_try(stage, job):
    """Nothing was paid, so the job waits on a rung as after any other failure of the endpoint."""
    await stage.worker("forward", job_budget_seconds=0.3)
    stage.model.rule(stall=True)
    await stage.send(job(), message_id="m")
    assert (await stage.take(stage.names.rung("forward", "5s"))).id == "m"


async def test_a_cut_off_reply_is_returned_as_it_is(pair, job):
    """Whether a text of limited length is of use is the caller's to judge."""
    pair.model.rule(reply="Half a sen", finish_reason="length")
    answer = (await pair.ask(job(backtalk={"record": "always"}))).json
    (choice,) = answer["completions"][0]["choices"]
    assert (answer["status"], choice["finish_reason"]) == ("completed", "length")
    assert answer["graph"]["variables"][-1]["data"] == "Half a sen"
    assert pair.model.total == 1


# ---- batches


async def test_a_failing_item_does_not_fail_the_others(pair, job):
    """What was paid is answered at once: items stay aligned, and the message takes no rung."""
    pair.model.rule(match="bad", status=500)
    body = job("{x}", inputs={"x": ["one", "bad", "three"]}, backtalk={"record": "always"})
    answer = (await pair.ask(body)).json
    one, bad, three = answer["completions"]
    assert (answer["status"], answer["error"]) == ("partial", None)
    assert (bad["error"]["code"], bad["error"]["retryable"]) == ("upstream_unavailable", True)
    output = next(v for v in answer["graph"]["variables"] if v["id"] == answer["output"])
    assert output["data"] == ["You said: one", None, "You said: three"]
    assert answer["usage"] == {name: one["usage"][name] + three["usage"][name] for name in answer["usage"]}
    assert answer["usage"]["total_tokens"] > 0
    assert pair.model.total == 2 + 3
    assert await pair.depth(pair.names.rung("forward", "5s")) == 0


async def test_a_rejected_item_does_not_fail_the_others(pair, job):
    """An item that is wrong is its own affair."""
    pair.model.rule(match="bad", status=400)
    answer = (await pair.ask(job("{x}", inputs={"x": ["bad", "two"]}))).json
    assert answer["status"] == "partial"
    assert answer["completions"][0]["error"]["code"] == "upstream_rejected"
    assert answer["completions"][1]["choices"][0]["message"]["content"] == "You said: two"


async def test_a_batch_of_which_nothing_was_done_has_failed(pair, job):
    """Its error is the first item's; every item has its own."""
    pair.model.rule(match="one", status=404)
    pair.model.rule(match="two", status=400)
    body = job("{x}", inputs={"x": ["one", "two"]}, backtalk={"record": "always"})
    answer = (await pair.ask(body)).json
    assert (answer["status"], answer["error"]["details"]["status"]) == ("failed", 404)
    assert [item["error"]["details"]["status"] for item in answer["completions"]] == [404, 400]
    assert (answer["output"], answer["outputs"], answer["graph"]) == (None, [], None)


async def test_a_batch_of_which_nothing_was_paid_takes_the_rung_whole(pair, job):
    """All of it can be done later at no loss."""
    pair.model.rule(status=429, retry_after=20)
    await pair.send(job("{x}", inputs={"x": ["one", "two"]}), message_id="m")
    assert (await pair.take(pair.names.rung("forward", "30s"))).id == "m"
    assert pair.model.total == 2


async def test_several_choices_are_outputs_of_their_own(pair, job):
    """`n` goes to the endpoint, and each choice index is one variable."""
    answer = (await pair.ask(job("{x}", n=2, inputs={"x": ["a", "b"]}, backtalk={"record": "always"}))).json
    data = {variable["id"]: variable["data"] for variable in answer["graph"]["variables"]}
    assert [data[output] for output in answer["outputs"]] == [
        ["You said: a", "You said: b"],
        ["You said: a (variant 2)", "You said: b (variant 2)"],
    ]
    assert answer["output"] == answer["outputs"][0]


# ---- gradients


async def test_one_failed_question_leaves_the_other_gradients(pair):
    """What could not be asked stands among the failures; what was paid is answered."""
    pair.model.rule(match=ABOUT + "Be brief.", status=400)
    answer = (await pair.ask(criticism(PROMPT, STYLE), role="backward", message_id="m")).json
    assert (answer["status"], answer["error"]) == ("partial", None)
    (entry,) = answer["gradients"]["prompt"]
    assert (entry["how"], entry["operation"], entry["input"]) == ("model", "op", "messages/0/content/0")
    assert (entry["role"], entry["feedback"]) == ("feedback to system prompt", ["f1"])
    assert answer["gradients"]["style"] == []
    (failure,) = answer["failures"]
    assert (failure["variable"], failure["operation"], failure["sample"]) == ("style", "op", None)
    assert failure["error"]["code"] == "upstream_rejected"
    assert answer["usage"]["calls"] == 1


async def test_a_transient_failure_after_a_paid_call_takes_no_rung(stage):
    """Paid work is answered at once, also where another question may succeed later."""
    await stage.worker("backward")
    stage.model.rule(match=ABOUT + "Be brief.", status=429, retry_after=20)
    answer = (await stage.ask(criticism(PROMPT, STYLE), role="backward")).json
    assert answer["status"] == "partial"
    assert answer["failures"][0]["error"]["code"] == "upstream_unavailable"
    assert await stage.depth(stage.names.rung("backward", "30s")) == 0


async def test_feedback_of_which_every_question_failed_has_failed(pair):
    """The error is the first failure's; no variable has an entry, every wanted one a key."""
    pair.model.rule(status=404)
    answer = (await pair.ask(criticism(PROMPT, STYLE), role="backward")).json
    assert (answer["status"], answer["error"]["code"]) == ("failed", "upstream_rejected")
    assert answer["gradients"] == {"prompt": [], "style": []}
    assert [failure["variable"] for failure in answer["failures"]] == ["prompt", "style"]


USELESS = {
    "empty": {"reply": ""},
    "blank": {"reply": " \n "},
    "only thoughts": {"reply": "<think>Hm, what could be wrong?</think>"},
    "cut off": {"reply": "The text sho", "finish_reason": "length"},
    "filtered": {"reply": "The text", "finish_reason": "content_filter"},
    "refused": {"body": reply(None, message={"refusal": "I cannot help with that."})},
    "null": {"body": reply(None)},
}


@pytest.mark.parametrize("useless", USELESS.values(), ids=USELESS)
async def test_a_useless_reply_is_asked_for_once_more(pair, useless):
    """The second reply counts, and both are paid."""
    pair.model.rule(times=1, **useless)
    answer = (await pair.ask(criticism(PROMPT), role="backward")).json
    assert answer["status"] == "completed"
    assert "Be friendlier." in answer["gradients"]["prompt"][0]["text"]
    assert answer["usage"]["calls"] == pair.model.total == 2


@pytest.mark.parametrize("useless", USELESS.values(), ids=USELESS)
async def test_a_second_useless_reply_is_a_failure(pair, useless):
    """A failure is a status, never text, and what was paid is in the usage."""
    pair.model.rule(**useless)
    answer = (await pair.ask(criticism(PROMPT), role="backward")).json
    assert (answer["status"], answer["gradients"]) == ("failed", {"prompt": []})
    assert answer["failures"][0]["error"]["code"] == "upstream_rejected"
    assert answer["usage"]["calls"] == pair.model.total == 2


async def test_nothing_to_say_is_an_empty_gradient(pair):
    """`NO FEEDBACK` is an answer: an entry without text, not a failure."""
    pair.model.rule(reply="<think>All is well.</think>\nNO FEEDBACK\n")
    answer = (await pair.ask(criticism(PROMPT), role="backward")).json
    (entry,) = answer["gradients"]["prompt"]
    assert (answer["status"], entry["text"], entry["how"]) == ("completed", "", "empty")
    assert pair.model.total == 1


async def test_a_chain_over_two_joined_fragments(pair, job):
    """The graphs of two jobs, sent as they came in any order, lead back to the first prompt."""
    first = (
        await pair.ask(
            job(messages=[{"role": "system", "content": [PROMPT]}, {"role": "user", "content": "Hi"}])
        )
    ).json
    written = next(v for v in first["graph"]["variables"] if v["id"] == first["output"])
    second = (await pair.ask(job(messages=[{"role": "user", "content": ["Shorten: ", written]}]))).json
    pair.model.reset()
    said = [{"variable": second["output"], "text": "Use only capital letters."}]
    body = {"graph": [second["graph"], first["graph"]], "feedback": said}
    answer = (await pair.ask(body, role="backward")).json
    assert answer["status"] == "completed"
    (entry,) = answer["gradients"]["prompt"]
    assert "capital letters" in entry["text"]
    assert entry["operation"] == first["graph"]["operations"][0]["id"]
    assert entry["feedback"] == ["feedback/0"]
    asked = [call.messages[-1]["content"] for call in pair.model.calls]
    assert [written["data"] in prompt for prompt in asked] == [True, True]
    assert ABOUT + written["data"] in asked[0]
    assert ABOUT + PROMPT["data"] in asked[1]
    assert answer["usage"]["calls"] == 2


@pytest.mark.parametrize(
    ("broken", "status", "failure", "entries"),
    [("Be kind.", "partial", ("prompt", "first"), [0, 1]), ("Maybe.", "failed", ("middle", "op"), [0, 0])],
    ids=["the first operation", "the last operation"],
)
async def test_a_broken_chain_names_where_it_broke(pair, broken, status, failure, entries):
    """What lies behind the break has no entry; what was paid before it is answered."""
    middle = {"id": "middle", "data": "Maybe.", "role": "draft", "producer": "first"}
    operations = [operation("prompt", id="first", writes="middle"), operation("middle")]
    graph = {"variables": [PROMPT, middle, ANSWER], "operations": operations}
    pair.model.rule(match=ABOUT + broken, status=400)
    body = {"graph": graph, "feedback": SAID, "wrt": ["prompt", "middle"]}
    answer = (await pair.ask(body, role="backward")).json
    assert answer["status"] == status
    assert [(failed["variable"], failed["operation"]) for failed in answer["failures"]] == [failure]
    assert [len(answer["gradients"][variable]) for variable in ("prompt", "middle")] == entries


async def test_questions_of_one_operation_are_asked_at_once(pair):
    """Ten inputs with a slow endpoint take the time of one."""
    pair.model.rule(delay=0.5)
    variables = [PROMPT | {"id": f"v{at}", "data": f"Rule {at}"} for at in range(10)]
    began = time.monotonic()
    answer = (await pair.ask(criticism(*variables), role="backward")).json
    assert time.monotonic() - began < 2.5
    assert [len(entries) for entries in answer["gradients"].values()] == [1] * 10


async def test_many_jobs_on_a_flaky_endpoint_are_all_answered_once(pair, job):
    """Failures here and there cost time, never an answer."""
    pair.model.rule(match="7", times=4, status=500)
    pair.model.rule(match="3", times=2, cut=True)
    mailbox = await pair.mailbox()
    ids = [f"job {at}" for at in range(50)]
    await asyncio.gather(*(pair.send(job(id), message_id=id, reply_to=mailbox) for id in ids))
    answers = [(await pair.take(mailbox)).json for _ in ids]
    assert sorted(answer["id"] for answer in answers) == sorted(ids)
    assert {answer["status"] for answer in answers} == {"completed"}
    assert await pair.depth(mailbox) == 0
