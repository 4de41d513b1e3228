"""The least that each user of the broker must be allowed: with it everything works, and each part of it is needed.

The patterns are those of docs/operations.md. `test_each_…` takes them away one by one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused

from backtalk.client import TopologyMismatch
from backtalk.transport.rabbitmq import check, declare
from backtalk.transport.topology import Names, topology

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 10.0
PASSWORD = "password"
DEFAULT = r"amq\.default"
VHOST = "locked"

# what may be configured, written and read: patterns of names behind the namespace, and the default exchange
Grant: TypeAlias = Mapping[str, tuple[str, ...]]

OPERATOR: Grant = {
    "configure": (
        "jobs",
        "dlx",
        "unrouted",
        "control",
        "results",
        r"results\.unrouted",
        r"(forward|backward)(\..+)?",
    ),
    "write": (DEFAULT, "dlx", "unrouted", r"results\.unrouted", r"(forward|backward)(\.crashed)?"),
    "read": ("jobs", "dlx", "unrouted", "results", r"(forward|backward)(\.(suspect|retry\..+))?"),
}
CLIENT: Grant = {
    "configure": (r"replies\..+",),
    "write": (DEFAULT, "control"),
    "read": (r"replies\..+",),
}


def worker(role: str) -> Grant:
    return {
        "configure": (r"control\..+",),
        "write": (DEFAULT, "results", r"control\..+"),
        "read": (role, rf"{role}\.suspect", rf"{role}\.crashed", "control", r"control\..+"),
    }


USERS: Mapping[str, Grant] = {
    "operator": OPERATOR,
    "forward": worker("forward"),
    "backward": worker("backward"),
    "client": CLIENT,
    "nobody": {"configure": (), "write": (), "read": ()},
}


def without(grant: Grant, kind: str, pattern: str) -> Grant:
    return {**grant, kind: tuple(one for one in grant[kind] if one != pattern)}


def parts(user: str) -> list[tuple[str, str]]:
    return [(kind, pattern) for kind, patterns in USERS[user].items() for pattern in patterns]


@dataclass(frozen=True)
class Locked:
    """A broker on which everybody may do just what they must."""

    host: str
    names: Names

    def url(self, user: str) -> str:
        return f"amqp://{user}:{PASSWORD}@{self.host}/{VHOST}"


def regex(namespace: str, patterns: tuple[str, ...]) -> str:
    whole = (
        pattern if pattern == DEFAULT else rf"{re.escape(namespace)}\.({pattern})" for pattern in patterns
    )
    return f"^({'|'.join(whole)})$"


def definitions(users: Mapping[str, tuple[str, Grant]]) -> Mapping[str, Any]:
    """Return users as `rabbitmqctl import_definitions` takes them: one command for all, each takes a second."""
    salt = b"salt"
    digest = base64.b64encode(salt + hashlib.sha256(salt + PASSWORD.encode()).digest()).decode()
    secret = {"password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}
    allowed = {
        user: {kind: regex(namespace, patterns) for kind, patterns in grant.items()}
        for user, (namespace, grant) in users.items()
    }
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": VHOST}],
        "users": [{"name": user, **secret} for user in users],
        "permissions": [
            {"user": user, "vhost": VHOST, **grant}
            for user, grant in {**allowed, "guest": everything}.items()
        ],
    }


def lesser(user: str, kind: str, pattern: str) -> str:
    """Return the name of a user who lacks one part of what another may do."""
    return f"{user}-{hashlib.sha256(f'{kind} {pattern}'.encode()).hexdigest()[:8]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(own_broker, tmp_path_factory) -> AsyncIterator[Locked]:
    """Return a broker with a declared topology, its users, and for each of their permissions one who lacks it."""
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    users = {user: (namespace, grant) for user, grant in USERS.items()}
    for user in ("operator", "forward", "client"):
        for kind, pattern in parts(user):
            name = lesser(user, kind, pattern)
            # an operator proves himself on a namespace in which nothing is declared yet
            users[name] = (
                name if user == "operator" else namespace,
                without(USERS[user], kind, pattern),
            )
    path = tmp_path_factory.mktemp("definitions") / "users.json"
    path.write_text(json.dumps(definitions(users)))
    await own_broker.control("import_definitions", str(path))
    host = own_broker.url.split("@")[1].rstrip("/")
    locked = Locked(host, Names(namespace))
    await declare(locked.url("operator"), topology(locked.names), patience=PATIENCE)
    yield locked
    await own_broker.control("delete_vhost", VHOST)


@pytest_asyncio.fixture(loop_scope="module")
async def stage(locked: Locked, stage_at):
    """Return a stage on the locked broker; the test itself may look at everything."""
    url = f"amqp://guest:guest@{locked.host}/{VHOST}"
    async with stage_at(url, namespace=locked.names.namespace) as stage:
        await stage.clear()
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def pair(locked: Locked, stage):
    """Run both workers, each as its own user."""
    for role in ("forward", "backward"):
        await stage.worker(role, amqp_url=locked.url(role), topology="check")
    return stage


# ---- what works


async def test_jobs_and_feedback_are_done_by_users_who_may_do_no_more(pair, locked, stage_at) -> None:
    """A client, and two workers that look for the topology instead of declaring it."""
    prompt = {"data": "Hello", "role": "prompt", "requires_grad": True}
    async with stage_at(locked.url("client"), namespace=locked.names.namespace) as own:
        client = await own.client()
        result = await client.complete(model="m", messages=[{"role": "user", "content": [prompt]}])
        gradients = await client.feedback(result.graph, {result.output: "Too short."})
    assert (result.status, gradients.status) == ("completed", "completed")


async def test_a_job_that_must_wait_goes_to_a_rung(pair, job) -> None:
    """The worker writes to the rung through the default exchange; the way back is the broker's own."""
    pair.model.rule(status=429, retry_after=20)
    await pair.send(job(), message_id="later")
    assert (await pair.take(pair.names.rung("forward", "30s"))).id == "later"


async def test_what_cannot_be_read_is_answered_and_filed(pair) -> None:
    """In the queue of dead letters, which the worker may write to and not read."""
    answer = await pair.ask(b"not json", message_id="junk")
    assert answer.error["code"] == "invalid_message"
    assert (await pair.take(pair.names.dead("forward"))).id == "junk"


async def test_what_the_broker_gave_up_on_is_answered_and_filed(pair, job) -> None:
    """The undertaker in every worker may read what crashed."""
    inbox = await pair.mailbox()
    await pair.send(job(), exchange=pair.names.dlx, key="backward", reply_to=inbox, message_id="deadly")
    assert (await pair.take(inbox)).error["code"] == "worker_crashed"
    assert (await pair.take(pair.names.dead("backward"))).id == "deadly"


async def test_an_answer_that_nobody_takes_is_kept(pair, job) -> None:
    """It goes to the exchange of results, and what nobody bound there to a queue of its own."""
    await pair.send(job(), reply_to=f"gone-{uuid.uuid4().hex}", message_id="unheard")
    kept = await pair.take(pair.names.kept_results)
    assert kept.json["id"] == "unheard"


async def test_everybody_may_see_that_the_topology_is_there(locked) -> None:
    """The broker asks for no permission to look whether a queue exists."""
    await check(locked.url("nobody"), topology(locked.names), patience=PATIENCE)


async def test_what_is_missing_is_named_with_the_remedy(locked) -> None:
    """All of it in one go, exchanges and queues."""
    absent = Names("absent")
    with pytest.raises(TopologyMismatch) as caught:
        await check(locked.url("forward"), topology(absent), patience=PATIENCE)
    told = str(caught.value)
    made = topology(absent)
    assert all(one.name in told for one in (*made.exchanges, *made.queues))
    assert "backtalk topology apply" in told


async def test_a_single_queue_that_is_missing_is_the_only_one_named(locked, stage) -> None:
    """Also in the middle of the list: each is looked for on a channel of its own."""
    lost = stage.names.rung("forward", "2m")
    await stage.delete(lost)
    with pytest.raises(TopologyMismatch, match=rf"missing on the broker: queue {re.escape(lost)}\. "):
        await check(locked.url("forward"), topology(locked.names), patience=PATIENCE)
    await declare(locked.url("operator"), topology(locked.names), patience=PATIENCE)
    await check(locked.url("forward"), topology(locked.names), patience=PATIENCE)


async def test_a_worker_that_may_not_declare_says_what_to_do(locked, stage) -> None:
    """Its default is to declare, and the broker does not let it."""
    with pytest.raises(TopologyMismatch, match="BACKTALK_TOPOLOGY=check"):
        await stage.worker("forward", amqp_url=locked.url("forward"))


# ---- what does not


Deed: TypeAlias = Callable[[AbstractChannel, Names], Awaitable[Any]]


async def attempt(url: str, names: Names, deed: Deed) -> bool:
    """Tell whether a user may do something; what else goes wrong is raised."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        try:
            await deed(channel, names)
        except ChannelAccessRefused:
            return False
    return True


def publish(exchange: str | None, key: str, *, mandatory: bool = True) -> Deed:
    async def deed(channel, names):
        at = await channel.get_exchange(f"{names.namespace}.{exchange}", ensure=False) if exchange else None
        message = aio_pika.Message(b"{}", message_id=uuid.uuid4().hex)
        await (at or channel.default_exchange).publish(
            message, f"{names.namespace}.{key}", mandatory=mandatory
        )

    return deed


def get(queue: str) -> Deed:
    async def deed(channel, names):
        source = await channel.get_queue(f"{names.namespace}.{queue}", ensure=False)
        await source.get(fail=False)

    return deed


async def drop(_message):
    pass


async def listen(channel, names):
    """Hear what all workers are told, as a worker does."""
    ear = await channel.declare_queue(names.ear(uuid.uuid4().hex), exclusive=True, auto_delete=True)
    await ear.bind(names.control)
    await ear.consume(drop, no_ack=True)


async def receive(channel, names):
    """Receive answers, as a client does."""
    arguments = {"x-queue-type": "quorum", "x-expires": 60_000}
    queue = await channel.declare_queue(names.replies(uuid.uuid4().hex), durable=True, arguments=arguments)
    consumer = await queue.consume(drop)
    await queue.cancel(consumer)
    await queue.delete(if_unused=False, if_empty=False)


DEEDS: Mapping[str, Mapping[tuple[str, str], Deed]] = {
    "forward": {
        ("configure", r"control\..+"): listen,
        ("write", DEFAULT): publish(None, "forward.dead"),
        ("write", "results"): publish("results", "forward.completed"),
        ("write", r"control\..+"): listen,
        ("read", "forward"): get("forward"),
        ("read", r"forward\.suspect"): get("forward.suspect"),
        ("read", r"forward\.crashed"): get("forward.crashed"),
        ("read", "control"): listen,
        ("read", r"control\..+"): listen,
    },
    "client": {
        ("configure", r"replies\..+"): receive,
        ("write", DEFAULT): publish(None, "forward"),
        ("write", "control"): publish("control", "", mandatory=False),
        ("read", r"replies\..+"): receive,
    },
}


@pytest.mark.parametrize("user", DEEDS)
async def test_every_permission_has_a_deed_that_needs_it(user) -> None:
    """So that none is granted without a test."""
    assert sorted(DEEDS[user]) == sorted(parts(user))


@pytest.mark.parametrize(
    ("user", "part"), [(user, part) for user, deeds in DEEDS.items() for part in deeds], ids=str
)
async def test_each_permission_is_needed(locked, stage, user, part) -> None:
    """With it a worker or client can do its work, without it it cannot."""
    deed = DEEDS[user][part]
    assert await attempt(locked.url(user), locked.names, deed)
    assert not await attempt(locked.url(lesser(user, *part)), locked.names, deed)


@pytest.mark.parametrize("part", parts("operator"), ids=str)
async def test_each_permission_of_an_operator_is_needed(locked, part) -> None:
    """Without it nobody can declare the topology where nothing is."""
    name = lesser("operator", *part)
    with pytest.raises(TopologyMismatch, match="ACCESS_REFUSED"):
        await declare(locked.url(name), topology(Names(name)), patience=PATIENCE)


async def delete_work(channel, names):
    await channel.queue_delete(names.work("forward"))


async def purge_work(channel, names):
    await (await channel.get_queue(names.work("forward"), ensure=False)).purge()


async def declare_other(channel, names):
    await channel.declare_queue(f"{names.namespace}.other", durable=True)


async def tap_jobs(channel, names):
    """Get a copy of every job that comes in by the exchange."""
    own = await channel.declare_queue(names.replies("tap"), exclusive=True)
    await own.bind(names.jobs, "#")


FORBIDDEN: Mapping[str, tuple[str, Deed]] = {
    "a client reads jobs": ("client", get("forward")),
    "a client reads dead letters": ("client", get("forward.dead")),
    "a client reads answers that nobody took": ("client", get("results.unrouted")),
    "a client deletes the work queue": ("client", delete_work),
    "a client empties the work queue": ("client", purge_work),
    "a client declares a queue": ("client", declare_other),
    "a client taps the jobs": ("client", tap_jobs),
    "a client announces a result": ("client", publish("results", "forward.completed")),
    "a client declares a job crashed": ("client", publish("dlx", "forward")),
    "a worker reads the other role's jobs": ("forward", get("backward")),
    "a worker reads dead letters": ("forward", get("forward.dead")),
    "a worker reads answers": ("forward", get("replies.somebody")),
    "a worker deletes its work queue": ("forward", delete_work),
    "a worker declares a queue": ("forward", declare_other),
    "a worker tells all workers something": ("forward", publish("control", "", mandatory=False)),
    "the other worker reads jobs": ("backward", get("forward")),
    "the other worker empties the work queue": ("backward", purge_work),
    "an operator reads dead letters": ("operator", get("forward.dead")),
    "nobody sends a job": ("nobody", publish(None, "forward")),
}


@pytest.mark.parametrize("crime", FORBIDDEN)
async def test_nobody_may_do_what_is_none_of_his_business(locked, stage, crime) -> None:
    """Other people's answers, other roles' jobs, the queues themselves."""
    user, deed = FORBIDDEN[crime]
    await stage.mailbox(locked.names.replies("somebody"))
    assert not await attempt(locked.url(user), locked.names, deed)
