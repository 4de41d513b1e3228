"""`backtalk topology` on a real broker: shown without one, compared without a trace, applied once."""

import json

import pytest
from fixtures.management import binding, management
from typer.testing import CliRunner

from backtalk.cli.main import app
from backtalk.operate.declared import State, apply, check
from backtalk.operate.management import Management
from backtalk.transport.envelope import TopologyMismatch
from backtalk.transport.rabbitmq import declare
from backtalk.transport.rabbitmq.looking import depths
from backtalk.transport.topology import Names, topology

# where a stage lives; verbs run in a loop of their own, outside any
beside_the_stage = pytest.mark.asyncio(loop_scope="module")


def run(*arguments, code=0):
    done = CliRunner().invoke(app, ["topology", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout) if "--json" in arguments else done.output


@pytest.fixture
def told(beside, new_stage):
    """Return the options that name an empty place on the broker, and the place."""
    stage = new_stage()
    beside(stage.__aenter__())
    yield ["--url", stage.url, "--namespace", stage.names.namespace], stage
    beside(declare(stage.url, topology(stage.names), patience=10))
    beside(stage.__aexit__())


def test_the_topology_is_shown_without_a_broker():
    """With the policy that a user would set."""
    shown = run("show", "--namespace", "shop", "--json")
    assert [one["name"] for one in shown["queues"]] == [one.name for one in topology(Names("shop")).queues]
    assert shown["policy"]["definition"] == {"max-length-bytes": 2 * 1024**3}
    text = run("show", "--namespace", "shop")
    assert shown["policy"]["command"] in text
    assert '"x-message-ttl": 30000' in text


def test_an_empty_broker_lacks_everything_and_still_does_after_the_check(told, beside):
    """Checking makes nothing, and fails."""
    options, stage = told
    found = run("check", "--json", *options, code=1)["objects"]
    assert {one["state"] for one in found if one["kind"] != "binding"} == {"missing"}
    assert {one["state"] for one in found if one["kind"] == "binding"} == {"not checked"}
    queues = [one.name for one in topology(stage.names).queues]
    assert set(beside(depths(stage.url, queues, patience=5)).values()) == {None}


def test_applying_makes_what_is_missing_and_says_what(told):
    """A second time there is nothing to be made."""
    options, stage = told
    whole = topology(stage.names)
    made = run("apply", "--json", *options)["made"]
    assert {one["name"] for one in made} == {one.name for one in (*whole.exchanges, *whole.queues)}
    assert run("apply", "--json", *options)["made"] == []
    assert {one["state"] for one in run("check", "--json", *options)["objects"]} == {"ok", "not checked"}
    assert "--management-url" in run("check", *options)


@beside_the_stage
async def test_a_queue_with_other_arguments_is_told_with_both_values(stage):
    """Of an exchange too; the rest is checked all the same, and nothing is made by applying."""
    channel = await stage.channel()
    other = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": 5}
    await channel.declare_queue(stage.names.dead("forward"), durable=True, arguments=other)
    await stage.exchange(stage.names.jobs, "fanout")
    found = {one.name: one for one in await check(stage.url, stage.names, management=None, patience=5)}
    queue, exchange = found[stage.names.dead("forward")], found[stage.names.jobs]
    assert (queue.state, queue.argument) == (State.DIFFERENT, "x-delivery-limit")
    assert ("1000000000" in queue.wanted, "5" in queue.found) == (True, True)
    assert (exchange.state, exchange.argument) == (State.DIFFERENT, "type")
    assert found[stage.names.work("forward")].state is State.MISSING
    with pytest.raises(TopologyMismatch, match=r"nothing was made.*Three ways out"):
        await apply(stage.url, stage.names, patience=5)
    assert await depths(stage.url, [stage.names.work("forward")], patience=5) == {
        stage.names.work("forward"): None
    }
    await stage.delete(stage.names.dead("forward"))
    await channel.exchange_delete(stage.names.jobs)
    await declare(stage.url, topology(stage.names), patience=10)


@beside_the_stage
async def test_bindings_are_checked_where_the_management_api_tells_them(stage):
    """One that is missing is found, and an API that does not answer is no fault of the topology."""
    await declare(stage.url, topology(stage.names), patience=10)
    known = [binding(one.exchange, one.key, one.queue) for one in topology(stage.names).bindings]
    with management({"bindings/%2F": known[1:]}) as api:
        asked = Management(api.url(), amqp_url=stage.url)
        found = await check(stage.url, stage.names, management=asked, patience=5)
        states = [one.state for one in found if one.kind == "binding"]
        assert states == [State.MISSING, *[State.OK] * 4]
    found = await check(stage.url, stage.names, management=asked, patience=5)
    assert {one.note for one in found if one.kind == "binding"} != {None}
    assert {one.state for one in found} == {State.OK, State.UNKNOWN}
