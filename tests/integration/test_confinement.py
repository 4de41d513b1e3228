"""What a message cannot choose: the server that is asked, its key, a file, or a queue of Backtalk's own."""

from __future__ import annotations

import pytest
import pytest_asyncio

from backtalk.runtime.settings import EndpointSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ELSEWHERE = "http://127.0.0.1:9/v1"
# what the SDK would obey if it were passed on as an argument
SDK_OPTIONS = {
    "base_url": ELSEWHERE,
    "api_key": "theirs",
    "extra_headers": {"Authorization": "Bearer theirs", "Host": "elsewhere"},
    "extra_query": {"key": "theirs"},
    "extra_body": {"model": "theirs"},
    "timeout": 0.000001,
    "max_retries": 50,
    "organization": "theirs",
    "http_client": {"proxy": ELSEWHERE},
}
FILE_AND_CODE = "{% include '/etc/passwd' %}{{ ''.__class__.__mro__ }}{% extends 'file:///etc/passwd' %}"


@pytest_asyncio.fixture(loop_scope="module")
async def locked(stage, monkeypatch):
    """A stage with a worker whose key is the only one that its model takes."""
    monkeypatch.setenv("TEST_KEY", "ours")
    stage.model.api_key = "ours"
    endpoint = EndpointSettings(base_url=stage.model.base_url, api_key_env="TEST_KEY")
    await stage.worker(endpoints={"openai": endpoint})
    return stage


@pytest.mark.parametrize("option", SDK_OPTIONS)
@pytest.mark.parametrize("streams", [False, True])
async def test_options_of_the_sdk_are_arguments_like_any_other(locked, job, option, streams):
    """They reach the configured server, under the worker's key, as fields that it may know."""
    answer = await locked.ask(job(stream=streams, **{option: SDK_OPTIONS[option]}))
    while answer.message.type != "completion.result.v1":
        answer = await locked.take(locked._inbox)
    assert answer.json["status"] == "completed"
    (call,) = locked.model.calls
    assert call.arguments[option] == SDK_OPTIONS[option]
    assert (call.model, locked.model.refused) == ("m", 0)


@pytest.mark.parametrize(
    "endpoint", [ELSEWHERE, "http://", "../openai", "OPENAI", " openai", "file:///etc/passwd"]
)
async def test_an_endpoint_that_is_not_configured_is_refused(locked, job, endpoint):
    """The known ones are named, their addresses are not."""
    answer = await locked.ask(job(backtalk={"endpoint": endpoint}))
    assert answer.error["code"] == "invalid_message"
    assert "known are openai" in answer.error["message"]
    assert locked.model.base_url not in answer.content.decode()
    assert locked.model.total == 0


@pytest.mark.parametrize("name", ["prefix", "suffix"])
async def test_templates_of_a_message_are_text(locked, job, name):
    """Nothing in them runs, and no file is read."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    templates = {"function_list": {name: FILE_AND_CODE}}
    answer = await locked.ask(job(tools=[tool], tool_templates=templates))
    assert answer.json["status"] == "completed"
    (call,) = locked.model.calls
    assert FILE_AND_CODE in call.messages[0]["content"]
    assert "root:" not in str(call.messages)


@pytest.mark.parametrize(
    "schema", [{"$ref": "file:///etc/passwd"}, {"$ref": ELSEWHERE}, {"$ref": "http://127.0.0.1:9/x#"}]
)
async def test_no_address_in_a_schema_is_fetched(locked, job, schema):
    """A tool's schema that leads away cannot be checked, and the job is answered without."""
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    answer = await locked.ask(job(tools=[tool]))
    assert answer.json["status"] in ("completed", "failed")
    assert "root:" not in answer.content.decode()


@pytest.mark.parametrize(
    "queue",
    [
        "forward",
        "forward.dead",
        "backward.retry.5s",
        "control",
        "control.1",
        "forward.suspect",
        "results.unrouted",
    ],
)
async def test_no_answer_goes_to_a_queue_of_our_own(locked, job, queue):
    """It is kept where unclaimed answers are, and says why."""
    await locked.send(job(), message_id="m", reply_to=f"{locked.names.namespace}.{queue}")
    answer = await locked.take(locked.names.kept_results)
    assert answer.error["code"] == "invalid_message"
    assert "reply_to" in answer.error["message"]
    assert locked.model.total == 0


async def test_headers_that_fill_a_frame_stop_nobody(locked, job):
    """The message is filed without them, and the next one is answered at once."""
    mailbox = await locked.mailbox()
    headers = {"x-backtalk-pad": "x" * 130_900}
    await locked.send(b"not json", message_id="m", reply_to=mailbox, headers=headers)
    assert (await locked.take(mailbox)).error["code"] == "invalid_message"
    assert (await locked.take(locked.names.dead("forward"))).id == "m"
    assert (await locked.ask(job())).json["status"] == "completed"
