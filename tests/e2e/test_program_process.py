"""Programs as processes: what they do before they call anybody, when they are interrupted, forked, and at their end."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

BEGIN = """
import os, sys, threading, time
import backtalk
from backtalk import Parameter, Variable, cognitive as cog
from backtalk.models.openai import OpenAI

system = Variable("Translate the text to Italian.", role="system instruction", requires_grad=True)
chat, client = cog.ChatCompletion(model="gpt-4o"), OpenAI()

def ask(text="Hello"):
    messages = [{"role": "system", "content": [system]}, {"role": "user", "content": [Variable(text)]}]
    return chat(client, messages)

def say(*words):
    print(*words, flush=True)

def sockets():
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))
"""

NOTHING_SENT = """
from backtalk.optim import TGD
from backtalk import functional as F, get_backward_model_client, set_backward_model_client

class Program(cog.Module):
    def __init__(self):
        super().__init__()
        self.prompt, self.chat = Parameter("Be brief.", role="prompt"), chat

program = Program()
set_backward_model_client("openai/gpt-4o")
optimizer = TGD(list(program.parameters()), OpenAI(model="gpt-4o"), constraints=["Be kind."], momentum=2)
total = F.sum([program.prompt, system]) + Variable("!")
total.data = "edited"
score, explanation = F.exact_match_evaluator(total, "other")
explanation.graph().as_json()
program.load_state_dict(program.state_dict())
optimizer.clear_grad()
say(threading.active_count(), sockets(), get_backward_model_client().get_usage()["calls"])
"""

INTERRUPTED = """
try:
    ask("wait")
except KeyboardInterrupt:
    say("interrupted")
say(ask().data)
"""

FORKED = """
say(ask().data)
child = os.fork()
if not child:
    say("child", ask().data)
    sys.exit(7)
_, status = os.waitpid(child, 0)
say("parent", ask().data, os.waitstatus_to_exitcode(status))
"""

FORKED_WITH_A_BROKER_OF_ITS_OWN = """
url, namespace = os.environ.pop("BACKTALK_AMQP_URL"), os.environ.pop("BACKTALK_NAMESPACE")
backtalk.connect(url, namespace=namespace, patience=3)
os.environ["BACKTALK_AMQP_URL"] = "amqp://guest:guest@127.0.0.1:1/"
say(ask().data)
from backtalk.autodiff.session import current
child = os.fork()
if not child:
    say("child", current()._new_client()._url == url)
    os._exit(0)
os.waitpid(child, 0)
"""


class Program:
    """A program of this file's pieces in a process of its own."""

    def __init__(self, process):
        self.process = process

    @classmethod
    async def begin(cls, environment, *pieces):
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "".join((BEGIN, *pieces)),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def end(self, seconds=20.0):
        """Return the exit code, what was printed as lines, and what was complained of."""
        async with asyncio.timeout(seconds):
            out, err = await self.process.communicate()
        return self.process.returncode, out.decode().splitlines(), err.decode()


@pytest.fixture
async def begin(environment):
    """Begin programs in the environment of this test; none outlives it."""
    begun = []

    async def one(*pieces, **variables):
        begun.append(await Program.begin({**environment, **variables}, *pieces))
        return begun[-1]

    yield one
    for program in begun:
        if program.process.returncode is None:
            program.process.kill()
            await program.process.wait()


async def until(condition, seconds=20.0):
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def nowhere():
    """The address of a broker that is not there."""
    return "amqp://guest:guest@127.0.0.1:1/"


async def test_nothing_is_connected_at_import_or_by_making_things(begin, nowhere):
    """Variables, modules, clients, optimizers, local operations: no thread, no socket, no call, no complaint."""
    program = await begin(NOTHING_SENT, BACKTALK_AMQP_URL=nowhere)
    assert await program.end() == (0, ["1 0 0"], "")


async def test_without_a_broker_the_first_call_says_so(begin, nowhere):
    """After the patience that the program has, by name."""
    program = await begin("backtalk.connect(patience=1)\nask()\n", BACKTALK_AMQP_URL=nowhere)
    code, _, complaint = await program.end()
    assert code == 1
    assert "BrokerUnreachable: no broker answered within 1 s" in complaint.splitlines()[-1]


async def test_an_interrupt_ends_the_wait_and_the_program_goes_on(begin, model, spawn):
    """Ctrl-C while a model is slow: KeyboardInterrupt in the line that waits; the next call is answered."""
    await spawn("forward", BACKTALK_DRAIN_SECONDS="0")
    model.rule(delay=30.0, match="wait", times=1)
    program = await begin(INTERRUPTED)
    await until(lambda: model.total == 1)
    began = time.monotonic()
    program.process.send_signal(signal.SIGINT)
    assert await program.end() == (0, ["interrupted", "Ciao"], "")
    assert time.monotonic() - began < 5


async def test_an_interrupt_that_nobody_catches_ends_the_program_at_once(begin, model, spawn):
    """With a traceback of KeyboardInterrupt and nothing else: no task, thread or connection complains."""
    await spawn("forward", BACKTALK_DRAIN_SECONDS="0")
    model.rule(delay=30.0)
    program = await begin("ask('wait')\n")
    await until(lambda: model.total == 1)
    began = time.monotonic()
    program.process.send_signal(signal.SIGINT)
    code, _, complaint = await program.end()
    assert code == -signal.SIGINT
    assert complaint.splitlines()[-1] == "KeyboardInterrupt"
    assert complaint.count("Traceback") == 1
    assert time.monotonic() - began < 3


async def test_an_interrupt_while_it_connects_ends_the_program_soon(begin, nowhere):
    """Nobody waits for a broker that a program no longer wants."""
    program = await begin("say('begun')\nask()\n", BACKTALK_AMQP_URL=nowhere)
    assert await program.process.stdout.readline() == b"begun\n"
    await asyncio.sleep(0.5)
    began = time.monotonic()
    program.process.send_signal(signal.SIGINT)
    code, _, complaint = await program.end()
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in complaint.splitlines()
    assert complaint.count("Traceback") == 1
    assert time.monotonic() - began < 3


async def test_a_program_that_ends_closes_its_connection(begin, spawn, broker, names):
    """Without being told to: quickly, in silence, and its queue of answers goes with it."""
    await spawn("forward")
    program = await begin("say(ask().data)\nimport atexit\nsys.exit(3)\n")
    assert await program.end() == (3, ["Ciao"], "")


async def test_parent_and_child_of_a_fork_have_connections_of_their_own(begin, spawn):
    """Both are answered after it, and both end as they should."""
    await spawn("forward")
    program = await begin(FORKED)
    assert await program.end() == (0, ["Ciao", "child Ciao", "parent Ciao 7"], "")


async def test_a_child_uses_the_broker_that_its_parent_chose(begin, spawn):
    """Only the connection is not shared; what connect() said still holds."""
    await spawn("forward")
    program = await begin(FORKED_WITH_A_BROKER_OF_ITS_OWN)
    assert await program.end() == (0, ["Ciao", "child True"], "")
