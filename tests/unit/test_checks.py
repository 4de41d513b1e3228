"""What the doctor says about what was seen."""

import pytest

from backtalk.operate import checks
from backtalk.operate.checks import Status
from backtalk.operate.declared import Finding, State
from backtalk.operate.limits import NoWorkerLimits, WorkerLimits, of_drain, of_limits, of_memory, of_timeout
from backtalk.operate.policies import Policy, effective, limits_command, limits_policy, overridden, unbounded
from backtalk.transport.rabbitmq.looking import Depth
from backtalk.transport.rabbitmq.probing import Probe
from backtalk.transport.topology import Names, Queue, topology

NAMES = Names("ns")
QUEUES = {queue.name: queue for queue in topology(NAMES).queues}
USUAL = WorkerLimits(memory_bound=2 * 1024**3, job_budget_seconds=900, drain_seconds=120)


@pytest.mark.parametrize(
    ("product", "version", "status"),
    [
        ("RabbitMQ", "3.10.8", Status.OK),
        ("RabbitMQ", "3.9.29", Status.FAILED),
        ("RabbitMQ", "4.2.0-rc.1", Status.OK),
        ("RabbitMQ", "5.0.0", Status.WARNING),
        ("LavinMQ", "4.0.0", Status.WARNING),
        ("RabbitMQ", "unknown", Status.WARNING),
    ],
)
def test_versions_from_3_10_to_4_are_supported(product, version, status):
    """Older ones fail, others were never tried."""
    assert checks.of_version(Probe(product, version)).status is status


def test_a_broker_that_does_not_confirm_has_an_alarm():
    """Then nothing larger is tried."""
    silent = Probe("RabbitMQ", "4.0.5", confirms=False)
    assert checks.of_alarm(silent).status is Status.FAILED
    assert checks.of_size(silent).status is Status.UNKNOWN


def test_a_message_that_does_not_pass_names_the_setting():
    """And what the broker said."""
    found = checks.of_size(Probe("RabbitMQ", "4.0.5", confirms=True, large=False, why="larger than 1024"))
    assert found.status is Status.FAILED
    assert "larger than 1024" in found.told
    assert "max_message_size" in found.remedy


def test_what_could_not_be_tried_is_unknown_and_says_why():
    """A user who may not declare queues is no fault of the broker."""
    found = checks.of_alarm(Probe("RabbitMQ", "4.0.5", why="ACCESS_REFUSED"))
    assert found.status is Status.UNKNOWN
    assert "ACCESS_REFUSED" in found.told


@pytest.mark.parametrize(
    ("state", "status", "remedy"),
    [
        (State.OK, Status.OK, ""),
        (State.MISSING, Status.FAILED, "topology apply"),
        (State.DIFFERENT, Status.FAILED, "Three ways out"),
        (State.UNKNOWN, Status.UNKNOWN, "may configure"),
    ],
)
def test_one_queue_that_is_not_as_it_should_be_decides(state, status, remedy):
    """With the remedy that fits."""
    fine = Finding("queue", "ns.forward", State.OK)
    found, _ = checks.of_topology([fine, Finding("queue", "ns.backward", state, note="why")])
    assert found.status is status
    assert remedy in found.remedy


def test_bindings_are_told_apart_from_what_amqp_tells():
    """What was not checked is not called good."""
    _, bindings = checks.of_topology(
        [Finding("binding", "a -b-> c", State.UNKNOWN, note="AMQP does not tell")]
    )
    assert bindings.status is Status.UNKNOWN
    assert "BACKTALK_MANAGEMENT_URL" in bindings.remedy


def test_many_faults_are_cut_short():
    """With how many there are."""
    found, _ = checks.of_topology([Finding("queue", f"q{n}", State.MISSING) for n in range(8)])
    assert found.told.endswith("(and 3 more)")


def test_a_work_queue_without_a_worker_is_a_warning():
    """One that is not there is told elsewhere."""
    depths = {"ns.forward": Depth(3, 0), "ns.backward": None}
    (found,) = checks.of_consumers(NAMES, depths)
    assert found.status is Status.WARNING
    assert "3 messages waiting" in found.told
    (working,) = checks.of_consumers(NAMES, {"ns.backward": Depth(1, 2)})
    assert (working.status, working.told) == (Status.OK, "2 on ns.backward, 1 message waiting")


@pytest.mark.parametrize(
    "queue", ["ns.forward.dead", "ns.backward.crashed", "ns.forward.suspect", "ns.results.unrouted"]
)
def test_what_lies_around_is_a_warning(queue):
    """With what to do about that queue."""
    found = checks.of_letters(NAMES, {queue: Depth(2, 0)})
    assert found.status is Status.WARNING
    assert found.told == f"2 in {queue}"
    assert queue in found.remedy


def test_messages_that_wait_on_a_rung_are_fine():
    """That is what rungs are for."""
    depths = {"ns.forward.retry.30s": Depth(9, 0), "ns.forward.dead": Depth(0, 0)}
    assert checks.of_letters(NAMES, depths).status is Status.OK


@pytest.mark.parametrize(
    ("version", "budget", "status"),
    [
        ("3.10.8", 900, Status.OK),
        ("3.11.28", 1550, Status.WARNING),
        ("3.10.8", 1700, Status.FAILED),
        ("3.12.0", 1700, Status.OK),
        ("4.0.5", 7100, Status.FAILED),
        (None, 900, Status.UNKNOWN),
    ],
)
def test_a_job_ends_before_the_broker_takes_it_away(version, budget, status):
    """The node's half an hour counts before 3.12, the queue's two hours since."""
    assert of_timeout(WorkerLimits(64, budget, 120), version).status is status


def test_a_bound_beyond_the_memory_is_a_warning():
    """Where the machine does not tell its memory, only the number is told."""
    assert of_memory(USUAL, 1024**3).status is Status.WARNING
    assert of_memory(USUAL, 2 * 1024**3).status is Status.OK
    assert "2048 MiB" in of_memory(USUAL, None).told


def test_a_worker_that_does_not_drain_is_a_warning():
    """What it was working on is paid twice."""
    assert of_drain(WorkerLimits(64, 900, 0)).status is Status.WARNING
    assert of_drain(USUAL).status is Status.OK


def test_settings_that_are_not_known_are_told_once():
    """No check pretends to have seen them."""
    (found,) = of_limits(NoWorkerLimits(Status.UNKNOWN, "not installed", "install it"), "4.0.5")
    assert (found.name, found.status) == ("settings", Status.UNKNOWN)


def test_the_policy_for_lengths_names_the_two_work_queues_alone():
    """A dot in a namespace is a dot."""
    assert limits_policy(Names("a.b"))["pattern"] == r"^a\.b\.(forward|backward)$"
    assert limits_command(NAMES) == (
        r"rabbitmqctl set_policy ns-limits '^ns\.(forward|backward)$' "
        """'{"max-length-bytes":2147483648}' --apply-to queues"""
    )
    assert not unbounded(limits_policy(NAMES)["definition"])


@pytest.mark.parametrize(
    ("queue", "policy", "changed"),
    [
        ("ns.forward", {"max-length": 10}, []),
        ("ns.forward", {"delivery-limit": 3}, ["delivery-limit 3"]),
        ("ns.forward", {"delivery-limit": 500}, []),
        ("ns.forward", {"dead-letter-exchange": "x", "overflow": "drop-head"}, []),
        ("ns.forward.dead", {"message-ttl": 1000}, ["message-ttl 1000"]),
        ("ns.forward.dead", {"dead-letter-exchange": "x"}, ["dead-letter-exchange 'x'"]),
        ("ns.forward.retry.5s", {"message-ttl": 60000}, []),
        ("ns.forward.crashed", {"expires": 5}, ["expires 5"]),
    ],
)
def test_a_policy_changes_what_it_makes_less_and_what_a_queue_leaves_open(queue, policy, changed):
    """As RabbitMQ decides between a queue's own arguments and policies."""
    found: Queue = QUEUES[queue]
    assert overridden(found, policy) == changed


def test_the_foremost_policy_counts_and_that_of_an_operator_on_top():
    """Of two numbers the lesser; policies for exchanges and for other queues do not matter."""
    policies = (
        Policy("weak", r"^ns\.", "queues", 0, {"expires": 1}),
        Policy("strong", r"^ns\.forward$", "all", 5, {"max-length": 10, "overflow": "drop-head"}),
        Policy("exchanges", ".*", "exchanges", 9, {"expires": 2}),
        Policy("classic", ".*", "classic_queues", 9, {"expires": 2}),
        Policy("operator", ".*", "quorum_queues", 0, {"max-length": 50, "delivery-limit": 3}, operator=True),
    )
    assert effective(policies, "ns.forward") == {
        "max-length": 10,
        "overflow": "drop-head",
        "delivery-limit": 3,
    }
    assert effective(policies[:1], "other") == {}
