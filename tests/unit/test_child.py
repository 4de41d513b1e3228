"""A message in a process of its own: how that may end. The processes are real, and tiny."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import time
from subprocess import PIPE

import pytest

from backtalk.runtime.child import Child, Command, Ending, end_with
from backtalk.transport.envelope import Envelope

MESSAGE = Envelope(b"body\n\x00", message_id="m", headers={"x-backtalk-attempt": 1})

# what every program may use
PRELUDE = """\
import json, os, signal, sys, time
def say(word):
    os.write(1, word)
def message():
    told = json.loads(sys.stdin.buffer.readline())
    return told["properties"], sys.stdin.buffer.read(told["size"])
"""


def child(program, seconds=20.0, env=None):
    """Return a child whose process runs this program."""
    code = PRELUDE + textwrap.dedent(program)
    return Child(Command((sys.executable, "-I", "-S", "-c", code), env), seconds)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


SETTLES = r"""
properties, body = message()
say(b"begun\n")
good = body == b"body\n\x00" and properties["message_id"] == "m"
say(b"settled\n" if good else b"garbled\n")
"""


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        (SETTLES, Ending.SETTLED),
        # what it says at last counts, not how it leaves
        (SETTLES + "os._exit(9)", Ending.SETTLED),
        (SETTLES + "os.kill(os.getpid(), signal.SIGKILL)", Ending.SETTLED),
        (r"message(); say(b'begun\n'); os.kill(os.getpid(), signal.SIGKILL)", Ending.DIED),
        (r"message(); say(b'begun\n'); sys.exit(0)", Ending.DIED),
        (r"message(); say(b'begun\n'); say(b'settled')", Ending.DIED),
        (r"message(); say(b'begun\n'); say(b'unsettled\n')", Ending.DIED),
        ("message(); sys.exit(1)", Ending.NOT_BEGUN),
        ("os._exit(4)", Ending.NOT_BEGUN),
    ],
    ids=[
        "settled",
        "settled and failed",
        "settled and died",
        "died",
        "left",
        "cut off",
        "other words",
        "never began",
        "never read",
    ],
)
async def test_what_a_process_said_tells_how_it_ended(program, ending):
    """It is settled if it said so; begun without an end is a death, and before that it is not to blame."""
    assert await child(program).work(MESSAGE) is ending


async def test_a_large_message_for_a_process_that_does_not_read_it_is_no_error():
    """The pipe breaks, and the process is judged by what it said."""
    large = Envelope(bytes(4 * 2**20), message_id="m")
    assert await child("os._exit(4)").work(large) is Ending.NOT_BEGUN


async def test_a_process_that_cannot_be_started_has_not_begun():
    """The program is gone, or there is no room for one more: the message is not to blame."""
    nowhere = Child(Command(("/nowhere/python", "--alone")), 5)
    assert await nowhere.work(MESSAGE) is Ending.NOT_BEGUN


@pytest.mark.parametrize(
    ("begun", "ending"),
    [("", Ending.NOT_BEGUN), (r"say(b'begun\n')", Ending.DIED), (r"say(b'settled\n')", Ending.SETTLED)],
    ids=["not begun", "begun", "settled"],
)
async def test_a_process_that_takes_too_long_is_killed(begun, ending, tmp_path):
    """However deaf it is; whatever it had said by then counts."""
    note = tmp_path / "pid"
    program = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{begun}\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    began = time.monotonic()
    assert await child(program, seconds=0.5).work(MESSAGE) is ending
    assert time.monotonic() - began < 5
    assert gone(int(note.read_text()))


async def test_giving_up_kills_the_process(tmp_path):
    """A worker that ends leaves no process behind."""
    note = tmp_path / "pid"
    program = f"open({str(note)!r}, 'w').write(str(os.getpid()) + '.')\ntime.sleep(60)"
    work = asyncio.ensure_future(child(program).work(MESSAGE))
    async with asyncio.timeout(10):
        while not (note.exists() and note.read_text().endswith(".")):
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert work.cancelled()
    assert gone(int(note.read_text().rstrip(".")))


async def test_a_process_that_is_stopped_may_settle_first(tmp_path):
    """It hears the signal of a drain, and has its say."""
    note = tmp_path / "begun"
    program = rf"""
    def settle(*_):
        say(b"settled\n")
        os._exit(0)
    signal.signal(signal.SIGTERM, settle)
    say(b"begun\n")
    open({str(note)!r}, "w").close()
    time.sleep(60)
    """
    one = child(program)
    work = asyncio.ensure_future(one.work(MESSAGE))
    async with asyncio.timeout(10):
        while not note.exists():
            await asyncio.sleep(0.01)
    one.stop()
    assert await asyncio.wait_for(work, 10) is Ending.SETTLED


async def test_stopping_when_nothing_runs_is_nothing():
    """Before the first process, and after the last."""
    one = child(SETTLES)
    one.stop()
    assert await one.work(MESSAGE) is Ending.SETTLED
    one.stop()


async def test_a_process_has_the_environment_it_is_given():
    """And nothing of ours, if it is told so."""
    program = r"""
    say(b"begun\n")
    if os.environ.get("GIVEN") == "yes" and "HOME" not in os.environ:
        say(b"settled\n")
    """
    assert await child(program, env={"GIVEN": "yes"}).work(MESSAGE) is Ending.SETTLED


async def test_what_a_library_prints_is_passed_over():
    """Lines, and one that is longer than any buffer."""
    program = r"""
    say(b"begun\n" + b"a word of a library\n" + b"x" * 200_000 + b"\n")
    say(b"settled\n")
    """
    assert await child(program).work(MESSAGE) is Ending.SETTLED


ORPHAN = """
import sys, time
from backtalk.runtime.child import BEGUN, end_with, say
end_with(sys.stdin.buffer)
say(BEGUN)
time.sleep(60)
"""


async def test_a_process_ends_with_the_worker_that_started_it():
    """Its input closes when the worker dies, in whatever way."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ORPHAN, stdin=PIPE, stdout=PIPE)
    try:
        assert (await asyncio.wait_for(process.stdout.readuntil(b"begun\n"), 20)).strip() == b"begun"
        assert process.returncode is None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_what_still_comes_from_the_worker_ends_nothing():
    """Only the end of its input does."""
    reading, writing = os.pipe()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    with open(reading, "rb") as parent:  # noqa: ASYNC230, PTH123
        end_with(parent, lambda code: loop.call_soon_threadsafe(ended.set) if code == 1 else None)
        os.write(writing, b"something")
        await asyncio.sleep(0.02)
        assert not ended.is_set()
        os.close(writing)
        await asyncio.wait_for(ended.wait(), 5)
