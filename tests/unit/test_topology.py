"""The topology, line by line as the design has it; the broker compares these arguments for ever."""

import pytest

from backtalk.transport.topology import Binding, Names, reply_queue, rung_for, topology

NAMES = Names("ns")
SAFE = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
FOR_EVER = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}


def work(role):
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": 100,
        "x-dead-letter-exchange": "ns.dlx",
        "x-dead-letter-routing-key": role,
        "x-consumer-timeout": 7_200_000,
        **SAFE,
    }


def rung(role, seconds):
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": seconds * 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": f"ns.{role}",
        **SAFE,
    }


QUEUES = {
    "ns.results.unrouted": {**FOR_EVER, "x-message-ttl": 604_800_000},
    **{
        name: arguments
        for role in ("forward", "backward")
        for name, arguments in {
            f"ns.{role}": work(role),
            f"ns.{role}.suspect": work(role),
            f"ns.{role}.retry.5s": rung(role, 5),
            f"ns.{role}.retry.30s": rung(role, 30),
            f"ns.{role}.retry.2m": rung(role, 120),
            f"ns.{role}.retry.10m": rung(role, 600),
            f"ns.{role}.crashed": FOR_EVER,
            f"ns.{role}.dead": {**FOR_EVER, "x-overflow": "reject-publish"},
        }.items()
    },
}


def test_the_queues_are_those_of_the_design():
    """Every name and every argument: one of them changed, and the worker no longer starts on an old broker."""
    declared = topology(NAMES).queues
    assert {queue.name: dict(queue.arguments) for queue in declared} == QUEUES
    assert len(declared) == len(QUEUES)


def test_the_exchanges_are_those_of_the_design():
    """Results that nobody is bound for go to the alternate exchange."""
    assert {(e.name, e.kind, tuple(e.arguments.items())) for e in topology(NAMES).exchanges} == {
        ("ns.jobs", "topic", ()),
        ("ns.dlx", "direct", ()),
        ("ns.unrouted", "fanout", ()),
        ("ns.control", "fanout", ()),
        ("ns.results", "topic", (("alternate-exchange", "ns.unrouted"),)),
    }


def test_the_bindings_are_those_of_the_design():
    """Jobs by topic, dead letters by role, unrouted results to the queue that keeps them."""
    assert set(topology(NAMES).bindings) == {
        Binding("ns.jobs", "forward.#", "ns.forward"),
        Binding("ns.jobs", "backward.#", "ns.backward"),
        Binding("ns.dlx", "forward", "ns.forward.crashed"),
        Binding("ns.dlx", "backward", "ns.backward.crashed"),
        Binding("ns.unrouted", "", "ns.results.unrouted"),
    }


def test_an_exchange_is_declared_before_another_names_it():
    """The alternate exchange exists before the results exchange points at it."""
    names = [exchange.name for exchange in topology(NAMES).exchanges]
    assert names.index("ns.unrouted") < names.index("ns.results")


def test_every_binding_is_between_things_that_are_declared():
    """Nothing is bound to a name that nobody declares."""
    whole = topology(NAMES)
    assert {binding.exchange for binding in whole.bindings} <= {exchange.name for exchange in whole.exchanges}
    assert {binding.queue for binding in whole.bindings} <= {queue.name for queue in whole.queues}


def test_another_namespace_shares_no_name():
    """Two installations on one broker never meet."""
    one, other = (
        {thing.name for thing in (*whole.queues, *whole.exchanges)}
        for whole in (topology(Names("one")), topology(Names("other")))
    )
    assert one.isdisjoint(other)


@pytest.mark.parametrize(
    ("lasting", "arguments"), [(True, FOR_EVER), (False, {**FOR_EVER, "x-expires": 3_600_000})]
)
def test_a_reply_queue_lasts_when_it_has_a_name_of_the_users(lasting, arguments):
    """Unnamed ones expire after an hour without a consumer."""
    queue = reply_queue(NAMES, "mine", lasting=lasting)
    assert (queue.name, dict(queue.arguments)) == ("ns.replies.mine", arguments)


@pytest.mark.parametrize(
    ("seconds", "rung"),
    [
        (0, "5s"),
        (4.9, "5s"),
        (5, "5s"),
        (5.1, "30s"),
        (30, "30s"),
        (31, "2m"),
        (120, "2m"),
        (121, "10m"),
        (600, "10m"),
        (601, "10m"),
        (1e9, "10m"),
    ],
)
def test_a_message_waits_on_the_shortest_rung_that_is_long_enough(seconds, rung):
    """And on the longest when none is."""
    assert rung_for(seconds) == rung


@pytest.mark.parametrize(
    ("reply_to", "refused"),
    [
        ("ns.forward", True),
        ("ns.backward", True),
        ("ns.forward.retry.5s", True),
        ("ns.forward.dead", True),
        ("ns.results.unrouted", True),
        ("ns.anything", True),
        ("ns.repliesX", True),
        ("ns.replies.mine", False),
        ("ns.replies.a.b", False),
        ("ns", False),
        ("nsx.forward", False),
        ("other.forward", False),
        ("amq.rabbitmq.reply-to.g2dkA", False),
        ("my-queue", False),
    ],
)
def test_an_answer_never_goes_to_a_queue_of_our_own(reply_to, refused):
    """An answer in a work queue would come back as a job; reply queues are what answers are for."""
    assert NAMES.refuses(reply_to) is refused
