"""`backtalk doctor` on a real broker: what is wrong is told with the remedy, and nothing is left behind."""

import json

import pytest
import pytest_asyncio
from fixtures.management import binding, management, policy
from typer.testing import CliRunner

from backtalk.cli.main import app
from backtalk.operate.checks import Status
from backtalk.operate.doctor import examine
from backtalk.operate.limits import WorkerLimits
from backtalk.operate.management import Management
from backtalk.transport.rabbitmq import declare
from backtalk.transport.rabbitmq.probing import probe
from backtalk.transport.topology import topology
from backtalk.wire.codec import MAX_WIRE_BYTES

# where a stage lives; verbs run in a loop of their own, outside any
beside_the_stage = pytest.mark.asyncio(loop_scope="module")
USUAL = WorkerLimits(memory_bound=1024**2, job_budget_seconds=900, drain_seconds=120)


async def examined(stage, **given):
    told = {"limits": USUAL, "management": None, "patience": 5, **given}
    return {one.name: one for one in await examine(stage.url, stage.names, **told)}


@pytest_asyncio.fixture(loop_scope="module")
async def declared(stage):
    """Return a stage whose queues are there, and nothing else."""
    await declare(stage.url, topology(stage.names), patience=10)
    return stage


@beside_the_stage
async def test_a_broker_as_it_should_be_passes(declared):
    """What AMQP does not tell is unknown, and that nobody works there is a warning."""
    found = await examined(declared)
    assert {name: one.status.value for name, one in found.items()} == {
        "broker": "ok",
        "alarms": "ok",
        "message size": "ok",
        "topology": "ok",
        "bindings": "unknown",
        "forward workers": "warning",
        "backward workers": "warning",
        "letters": "ok",
        "policies": "unknown",
        "consumer timeout": "ok",
        "memory": "ok",
        "drain": "ok",
    }
    assert all(one.remedy for one in found.values() if one.status is not Status.OK)


@beside_the_stage
async def test_a_worker_is_seen(declared):
    """By its consumers."""
    await declared.worker("forward")
    found = await examined(declared)
    assert (found["forward workers"].status, found["backward workers"].status) == (Status.OK, Status.WARNING)


@beside_the_stage
async def test_missing_queues_fail(stage):
    """With the verb that makes them."""
    found = await examined(stage)
    assert found["topology"].status is Status.FAILED
    assert "backtalk topology apply" in found["topology"].remedy
    await declare(stage.url, topology(stage.names), patience=10)


@beside_the_stage
async def test_dead_letters_are_told_with_the_verb_that_lists_them(declared):
    """They are for people."""
    await declared.send(b"{}", key=declared.names.dead("backward"))
    found = (await examined(declared))["letters"]
    assert found.status is Status.WARNING
    assert "backtalk dead list --role backward" in found.remedy


@beside_the_stage
async def test_the_largest_message_really_passes_and_leaves_nothing(declared):
    """A larger one than the broker takes is told in its own words."""
    found = await probe(declared.url, MAX_WIRE_BYTES, patience=5)
    assert (found.confirms, found.large, found.why) == (True, True, "")
    assert found.product == "RabbitMQ"


@pytest.mark.usefixtures("declared")
@beside_the_stage
async def test_a_message_that_is_too_large_for_the_broker_is_told(own_stage):
    """The private node takes 16 MiB."""
    found = await probe(own_stage.url, 17 * 1024 * 1024, patience=5)
    assert (found.confirms, found.large) == (True, False)
    assert "16777216" in found.why


@beside_the_stage
async def test_an_alarm_is_told_and_not_waited_out(own_stage, own_broker):
    """A broker with an alarm confirms nothing; looking at queues goes on."""
    await own_broker.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        found = await probe(own_stage.url, 1024, patience=5, confirm_seconds=0.3)
        assert (found.confirms, found.large) == (False, None)
    finally:
        await own_broker.control("set_vm_memory_high_watermark", "absolute", "2GB")


@beside_the_stage
async def test_policies_are_told_where_the_management_api_tells_them(declared):
    """Work queues without a length limit, and what a policy takes from our queues."""
    names, known = declared.names, topology(declared.names)
    answers = {
        "policies/%2F": [
            policy("length", f"{names.work('backward')}$", **{"max-length": 10}),
            policy("time", f"{names.dead('forward')}$", **{"message-ttl": 60000}),
        ],
        "operator-policies/%2F": [],
        "bindings/%2F": [binding(one.exchange, one.key, one.queue) for one in known.bindings],
    }
    with management(answers) as api:
        found = await examined(declared, management=Management(api.url(), amqp_url=declared.url))
    assert found["bindings"].status is Status.OK
    assert found["length limits"].status is Status.WARNING
    assert found["length limits"].told.startswith(f"{names.work('forward')} may grow")
    assert "rabbitmqctl set_policy" in found["length limits"].remedy
    assert f"{names.dead('forward')}: message-ttl 60000" in found["policies"].told


def run(*arguments, code):
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return {one["name"]: one for one in json.loads(done.stdout)["checks"]}


def test_a_broker_that_is_not_there_fails_and_the_settings_are_told(monkeypatch):
    """Without a password in what is printed."""
    monkeypatch.setattr("backtalk.cli.doctor.PATIENCE", 0)
    monkeypatch.setenv("BACKTALK_DRAIN_SECONDS", "0")
    done = CliRunner().invoke(app, ["doctor", "--url", "amqp://ops:secret@127.0.0.1:1/"])
    assert done.exit_code == 1
    assert "secret" not in done.output
    found = run("--url", "amqp://ops:secret@127.0.0.1:1/", code=1)
    assert (found["broker"]["status"], found["drain"]["status"]) == ("failed", "warning")


def test_settings_that_no_worker_would_start_with_fail(monkeypatch, broker):
    """As the worker itself says it."""
    monkeypatch.setenv("BACKTALK_JOB_BUDGET_SECONDS", "4000")
    found = run("--url", broker.url, "--namespace", "nobody-is-here", code=1)
    assert found["settings"]["status"] == "failed"
    assert "BACKTALK_JOB_BUDGET_SECONDS" in found["settings"]["told"]


def test_a_management_url_that_is_none_is_told_and_ends_nothing(broker):
    """The other checks are worth having."""
    found = run("--url", broker.url, "--management-url", "localhost:15672", code=1)
    assert found["policies"]["status"] == "unknown"
    assert "should be http://" in found["policies"]["told"]
