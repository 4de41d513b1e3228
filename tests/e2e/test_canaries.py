"""Distinct strings are planted wherever a secret or a prompt is, and looked for in all that comes out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from backtalk.local.redis_server import PrivateRedis

PATIENCE = 30.0

AMQP = "Canary-amqp-0A81"
WRONG = "Canary-wrong-amqp-77D2"
REDIS = "Canary-redis-93BD"
IN_ENVIRONMENT = "Canary-key-in-environment-5E10"
IN_FILE = "Canary-key-in-file-C44F"
IN_URL = "Canary-url-BE07"
HEADER = "Canary-header-2C9A"
SECRETS = (AMQP, WRONG, REDIS, IN_ENVIRONMENT, IN_FILE, IN_URL, HEADER)
USER = "canary"


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


async def run(environment: Mapping[str, str], *command: str) -> tuple[int, str]:
    """Run a command to its end; return its exit code and all it said."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def found(where: Mapping[str, str], canaries: tuple[str, ...]) -> list[str]:
    """Return which canary got where, in which line; encoded ones count as well, and those in lower case."""
    spelt = {
        canary: (canary.lower(), base64.b64encode(canary.encode()).decode().rstrip("=").lower())
        for canary in canaries
    }
    return [
        f"{canary} in {place}: {line[:300]}"
        for place, text in where.items()
        for line in text.splitlines()
        for canary, forms in spelt.items()
        if any(form in line.lower() for form in forms)
    ]


@dataclass
class Sender:
    """A service that sends whatever it likes and keeps every message it gets back."""

    channel: aio_pika.abc.AbstractChannel
    inbox: aio_pika.abc.AbstractQueue
    got: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    async def ask(self, queue: str, body: Any, **headers: Any) -> Mapping[str, Any]:
        """Send a request and return the answer, or its error where there is one."""
        id = uuid.uuid4().hex
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = aio_pika.Message(
            content, message_id=id, correlation_id=id, reply_to=self.inbox.name, headers=headers
        )
        await self.channel.default_exchange.publish(message, queue)
        async with asyncio.timeout(PATIENCE):
            while id not in self.got:
                await asyncio.sleep(0.01)
        return self.got[id]

    def receive(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        told = json.loads(message.body)
        self.seen.append(shown(message))
        if message.type != "completion.chunk.v1":
            self.got[message.correlation_id] = told


def shown(message: aio_pika.abc.AbstractIncomingMessage) -> str:
    return f"{message.info()} {message.body.decode()}"


@asynccontextmanager
async def sending(channel: aio_pika.abc.AbstractChannel) -> AsyncIterator[Sender]:
    sender = Sender(channel, await channel.declare_queue(exclusive=True))

    async def receive(message):
        sender.receive(message)

    await sender.inbox.consume(receive, no_ack=True)
    yield sender


async def letters(channel, queue: str, count: int) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """Take so many messages from a queue."""
    source = await channel.get_queue(queue, ensure=False)
    taken: list[aio_pika.abc.AbstractIncomingMessage] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            if message := await source.get(no_ack=True, fail=False):
                taken.append(message)
            else:
                await asyncio.sleep(0.02)
    return taken


def job(text: str = "Hello", **fields: Any) -> Mapping[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


def feedback() -> Mapping[str, Any]:
    graph = {
        "schema_version": 1,
        "variables": [
            {"id": "p", "data": "Answer.", "role": "prompt", "requires_grad": True},
            {"id": "a", "data": "It is.", "role": "answer", "requires_grad": True, "producer": "op"},
        ],
        "operations": [
            {
                "id": "op",
                "op": "chat_completion",
                "endpoint": "openai",
                "model": "m",
                "arguments": {},
                "messages": [{"role": "user", "content": ["p"]}],
                "inputs": {},
                "outputs": ["a"],
            }
        ],
    }
    return {"graph": graph, "feedback": [{"variable": "a", "text": "Too short."}]}


@pytest.fixture
def user(broker, tmp_path) -> str:
    """Return the URL of a user of the broker whose password is a canary."""
    salt = b"salt"
    digest = base64.b64encode(salt + hashlib.sha256(salt + AMQP.encode()).digest()).decode()
    secret = {"password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    path = tmp_path / "definitions.json"
    path.write_text(
        json.dumps(
            {
                "users": [{"name": USER, **secret}],
                "permissions": [{"user": USER, "vhost": "/", **everything}],
            }
        )
    )
    broker.control("import_definitions", str(path))
    return broker.url.replace("guest:guest", f"{USER}:{AMQP}")


@pytest.fixture
def planted(environment, user, model, tmp_path) -> dict[str, str]:
    """Return an environment with a canary in every secret, one of them in a file."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "openai_api_key").write_text(f"{IN_FILE}\n")
    return {
        **environment,
        # an empty variable says nothing, the file says it
        "OPENAI_API_KEY": "",
        "BACKTALK_AMQP_URL": user,
        "BACKTALK_SECRETS_DIR": str(secrets),
        "BACKTALK_ENDPOINTS": json.dumps(
            {"other": {"base_url": model.base_url, "api_key_env": "CANARY_KEY"}}
        ),
        "CANARY_KEY": IN_ENVIRONMENT,
        "BACKTALK_LOG_LEVEL": "debug",
        "BACKTALK_MAX_ATTEMPTS": "1",
        "BACKTALK_CONNECT_SECONDS": "0.5",
    }


KEYS: Mapping[str, str] = {"openai": IN_FILE, "other": IN_ENVIRONMENT}


def echoes(key: str) -> Mapping[str, Mapping[str, Any]]:
    """Return how an endpoint may repeat the key that it was sent."""
    words = f"Incorrect API key provided: {key}"
    error = json.dumps({"error": {"message": words, "code": words}})
    return {
        "rejected": {"status": 401, "body": error},
        "rejected without JSON": {"status": 403, "body": words, "content_type": f"text/plain; key={key}"},
        "down": {"status": 500, "body": error},
        "down behind a proxy": {"status": 502, "body": words, "content_type": f"text/{key}"},
        "no completion": {"status": 200, "body": json.dumps({"error": words, key: key})},
        "no JSON": {"status": 200, "body": words, "content_type": f"text/html; key={key}"},
    }


def streamed_echoes(key: str) -> Mapping[str, Mapping[str, Any]]:
    """Return how an endpoint may repeat it when it was asked for a stream."""
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {key}"}})
    stream = {"status": 200, "content_type": "text/event-stream"}
    return {
        "an error in the stream": {**stream, "body": f"data: {error}\n\n"},
        "an event that is no JSON": {**stream, "body": f"data: {key}\n\n"},
        "no stream": {"status": 200, "body": key, "content_type": f"text/html; key={key}"},
        "rejected before the stream": {"status": 401, "body": error},
    }


def faults() -> list[tuple[str, bool, Mapping[str, Any]]]:
    """Return all that can go wrong: at which endpoint, streamed or not, and the rule that brings it about."""
    return [
        (endpoint, streamed, echo)
        for endpoint, key in KEYS.items()
        for streamed, ways in ((False, echoes(key)), (True, streamed_echoes(key)))
        for echo in ways.values()
    ]


async def test_no_secret_comes_out_of_the_workers(planted, spawn, names, channel, model) -> None:
    """Neither in answers and dead letters nor in the log at its most talkative, in good times and bad."""
    forward, backward = names.work("forward"), names.work("backward")
    async with PrivateRedis("--requirepass", REDIS) as redis, sending(channel) as sender:
        store = redis.url.replace("//", f"//:{REDIS}@")
        workers = [
            await spawn(role, script(f"{role}-worker"), **planted, BACKTALK_RESULT_STORE=store)
            for role in ("forward", "backward")
        ]
        headers = {"authorization": f"Bearer {HEADER}"}
        statuses = [
            (await sender.ask(forward, job(), **headers))["status"],
            (await sender.ask(forward, job("Hi", backtalk={"endpoint": "other"}), **headers))["status"],
            (await sender.ask(backward, feedback(), **headers))["status"],
        ]
        assert statuses == ["completed"] * 3
        asked = []
        for endpoint, streamed, echo in faults():
            text = uuid.uuid4().hex
            model.rule(match=text, **echo)
            broken = job(text, stream=streamed, backtalk={"endpoint": endpoint})
            asked.append(sender.ask(forward, broken, **headers))
        model.rule(match="Too short.", **echoes(IN_FILE)["rejected"])
        asked.append(sender.ask(backward, {**feedback(), "model": "again"}, **headers))
        assert [answer["status"] for answer in await asyncio.gather(*asked)] == ["failed"] * len(asked)
        model.reset()
        assert (await sender.ask(forward, b"no json", **headers))["status"] == "failed"
        assert (await sender.ask(backward, {"graph": 1}, **headers))["status"] == "failed"
        await redis.stop()
        assert (await sender.ask(forward, job("after"), **headers))["status"] == "completed"
        dead = await letters(channel, names.dead("forward"), 1)
        dead += await letters(channel, names.dead("backward"), 1)
        for worker in workers:
            worker.send(signal.SIGTERM)
            assert await worker.wait() == 0
    logs = {f"the log of worker {at}": worker.log.read_text() for at, worker in enumerate(workers)}
    # the keys were found, and Redis was missed
    assert all(told.count('"key":true') == len(KEYS) for told in logs.values())
    assert "result store" in logs["the log of worker 0"]
    answers = {f"answer {at}": told for at, told in enumerate(sender.seen)}
    filed = {f"letter {at}": shown(letter) for at, letter in enumerate(dead)}
    assert found({**logs, **answers, **filed}, SECRETS) == []


WRONGLY_SET: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "no settings are wrong, help is asked for": (0, {}),
    "a password that the broker refuses": (4, {"BACKTALK_AMQP_URL": "amqp://guest:" + WRONG + "@{host}"}),
    "a broker that is away": (4, {"BACKTALK_AMQP_URL": f"amqp://guest:{WRONG}@127.0.0.1:1/"}),
    "certificates that are missing": (
        2,
        {"BACKTALK_AMQP_URL": f"amqps://guest:{WRONG}@host/?cafile=/no/such.pem"},
    ),
    "a password in the URL of an endpoint": (2, {"OPENAI_BASE_URL": f"https://me:{IN_URL}@host/v1"}),
    "a key with a line break": (2, {"CANARY_KEY": f"{IN_ENVIRONMENT}\n{IN_ENVIRONMENT}"}),
}


@pytest.mark.parametrize("slip", WRONGLY_SET)
async def test_a_worker_that_does_not_start_says_why_without_a_secret(planted, broker, slip) -> None:
    """What is wrong is named by its variable; a traceback would name the value."""
    code, variables = WRONGLY_SET[slip]
    host = broker.url.split("@")[1]
    wrong = {name: value.replace("{host}", host) for name, value in variables.items()}
    command = [script("forward-worker"), *(() if wrong else ("--help",))]
    told = await run({**planted, **wrong}, *command)
    assert told[0] == code
    assert "Traceback" not in told[1]
    assert found({"what it said": told[1]}, SECRETS) == []


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "submit": ("submit", "{requests}", "--out", "{out}"),
    "dead": ("dead", "list"),
    "topology": ("topology", "check"),
    "doctor": ("doctor",),
}
MALFORMED = f"amqps://guest:{WRONG}@host/?no_verify_ssl=1"


@pytest.mark.parametrize("verb", COMMANDS)
async def test_a_command_that_fails_says_why_without_a_secret(planted, broker, tmp_path, verb) -> None:
    """Wherever the URL comes from: the environment, or an option of the command."""
    requests = tmp_path / "requests.jsonl"
    body = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": job()}
    requests.write_text(json.dumps(body) + "\n")
    words = [word.format(requests=requests, out=tmp_path / "results.jsonl") for word in COMMANDS[verb]]
    refused = {**planted, "BACKTALK_AMQP_URL": broker.url.replace("guest:guest", f"guest:{WRONG}")}
    told = await asyncio.gather(
        run(refused, script("backtalk"), *words),
        run(planted, script("backtalk"), *words, "--url", MALFORMED),
    )
    assert [code for code, _ in told] == [1, 1]
    assert all("Traceback" not in said for _, said in told)
    assert found({f"run {at}": said for at, (_, said) in enumerate(told)}, SECRETS) == []


SAID = tuple(
    f"canary-{what}-{what[::-1]}"
    for what in (
        "prompt",
        "system",
        "input",
        "name",
        "role",
        "reply",
        "tool",
        "metadata",
        "junk",
        "criticism",
    )
)
PROMPT, SYSTEM, INPUT, NAME, ROLE, REPLY, TOOL, METADATA, JUNK, CRITICISM = SAID


def talkative(**fields: Any) -> Mapping[str, Any]:
    """Return a job with something of the customer's in every part of it."""
    variable = {"data": SYSTEM, "role": ROLE, "name": NAME, "requires_grad": True}
    tool = {"name": "look", "description": TOOL, "parameters": {"type": "object", "properties": {}}}
    return {
        "model": "m",
        "messages": [
            {"role": "system", "content": [variable]},
            {"role": "user", "content": f"{PROMPT} {{question}}"},
        ],
        "inputs": {"question": INPUT},
        "tools": [{"type": "function", "function": tool}],
        "metadata": {"about": METADATA},
        "backtalk": {"metadata": {"about": METADATA}},
        **fields,
    }


BAD_JOBS: tuple[Any, ...] = (
    b'{"model": "' + JUNK.encode(),
    {JUNK: JUNK},
    talkative(inputs={"question": INPUT, NAME: INPUT}),
    talkative(inputs={"question": {INPUT: INPUT}}),
    talkative(messages=[{"role": ROLE, "content": PROMPT}]),
    talkative(backtalk={"endpoint": NAME}),
    talkative(backtalk={METADATA: METADATA}),
    talkative(tool_templates={"position": TOOL}),
    talkative(tools=[{"type": TOOL}]),
    talkative(n=PROMPT),
)


async def test_nothing_of_a_body_is_in_the_log_above_debug(spawn, names, channel, model) -> None:
    """One line for each outcome, with the job's id: nothing that was asked, said, criticised or malformed."""
    forward, backward = names.work("forward"), names.work("backward")
    async with sending(channel) as sender:
        workers = [
            await spawn(role, BACKTALK_MAX_ATTEMPTS="1", BACKTALK_LOG_LEVEL="info")
            for role in ("forward", "backward")
        ]
        model.rule(match=PROMPT, times=2, reply=REPLY)
        good = await sender.ask(forward, talkative())
        assert good["status"] == "completed"
        assert REPLY in json.dumps(good)
        asked = {"graph": good["graph"], "feedback": [{"variable": good["output"], "text": CRITICISM}]}
        assert (await sender.ask(backward, asked))["status"] == "completed"
        twisted = json.loads(json.dumps(asked).replace('"op": "chat_completion"', f'"op": "{JUNK}"'))
        assert (await sender.ask(backward, twisted))["status"] == "failed"
        conflict = {**asked, "graph": [asked["graph"], _changed(asked["graph"])]}
        assert (await sender.ask(backward, conflict))["status"] == "failed"
        answers = [await sender.ask(forward, bad) for bad in BAD_JOBS]
        assert [answer["status"] for answer in answers] == ["failed"] * len(BAD_JOBS)
        for status in (400, 500):
            model.reset()
            model.rule(status=status, body=json.dumps({"error": {"message": f"{PROMPT} {REPLY}"}}))
            assert (await sender.ask(forward, talkative()))["status"] == "failed"
            assert (await sender.ask(backward, {**asked, "model": f"m{status}"}))["status"] == "failed"
        for worker in workers:
            worker.send(signal.SIGTERM)
            await worker.wait()
    logs = {f"the log of worker {at}": worker.log.read_text() for at, worker in enumerate(workers)}
    told = "".join(logs.values())
    assert all(id in told for id in sender.got)
    assert told.count('"event":"answered"') == len(sender.got)
    assert found(logs, SAID) == []


def _changed(graph: Any) -> Any:
    return json.loads(json.dumps(graph).replace(SYSTEM, f"{SYSTEM} too"))
