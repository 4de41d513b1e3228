"""`backtalk top` on a real broker: what can be asked is shown, and what cannot be asked is said."""

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path
from threading import Timer

import pytest
from fixtures.management import management
from fixtures.metrics import metrics, worker
from typer.testing import CliRunner

from backtalk.cli.main import app
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology

ASKED = (
    "queues/%2F?columns=name,messages_ready,messages_unacknowledged,consumers,messages_details.rate,"
    "message_stats.publish_details.rate,message_stats.ack_details.rate"
)
ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


@pytest.fixture(scope="module")
def place(beside, new_stage):
    """Return a namespace with a job in its queue, an answer that nobody took, and nobody who works."""
    stage = new_stage()
    beside(stage.__aenter__())
    beside(declare(stage.url, topology(stage.names), patience=10))
    beside(stage.send(b"{}", key=stage.names.work("forward")))
    beside(stage.send(b"{}", key=stage.names.kept_results))
    yield stage
    beside(stage.__aexit__())


@pytest.fixture
def top(place, monkeypatch):
    """Return how to run the verb in a pipe."""
    monkeypatch.delenv("BACKTALK_MANAGEMENT_URL", raising=False)
    monkeypatch.delenv("BACKTALK_WORKERS", raising=False)

    def run(*arguments, code=0, url=place.url):
        options = ["--url", url, "--namespace", place.names.namespace, "--interval", "0.1"]
        done = CliRunner().invoke(app, ["top", *arguments, *options])
        assert done.exit_code == code, (done.output, done.exception)
        return json.loads(done.stdout) if "--json" in arguments else done.output

    return run


def line_of(told, queue):
    (line,) = (one for one in told["queues"] if one["name"] == queue)
    return line


def test_depths_are_seen_without_anything_but_the_broker(top, place):
    """It says what is missing, and how to add it."""
    told = top("--json")
    assert {one["name"] for one in told["queues"]} == {one.name for one in topology(place.names).queues}
    assert line_of(told, place.names.work("forward")) == {
        "name": place.names.work("forward"),
        "there": True,
        "ready": 1,
        "unacked": None,
        "in_rate": None,
        "out_rate": None,
        "consumers": 0,
    }
    assert line_of(told, place.names.kept_results)["ready"] == 1
    assert told["workers"] == told["models"] == []
    without_management, without_workers = told["notes"]
    assert "BACKTALK_MANAGEMENT_URL" in without_management
    assert "BACKTALK_WORKERS" in without_workers


def test_rates_are_those_of_the_management_api(top, place):
    """A queue without statistics had no traffic, unless it keeps none; one that it does not know is missing."""
    work = place.names.work("forward")
    stats = {"publish_details": {"rate": 2.5}, "ack_details": {"rate": 1.5}}
    counts = {"messages_ready": 7, "messages_unacknowledged": 3, "consumers": 2}
    kept = {"messages_details": {"rate": 0.0}}
    known = [
        {"name": work, **counts, **kept, "message_stats": stats},
        {"name": place.names.dead("forward"), **counts, **kept},
        {"name": place.names.suspect("forward")},
    ]
    with management({ASKED: known}) as api:
        told = top("--json", "--management-url", api.url())
    assert line_of(told, work) == {
        "name": work,
        "there": True,
        "ready": 7,
        "unacked": 3,
        "in_rate": 2.5,
        "out_rate": 1.5,
        "consumers": 2,
    }
    assert line_of(told, place.names.dead("forward"))["in_rate"] == 0.0
    unknown = line_of(told, place.names.suspect("forward"))
    assert (unknown["there"], unknown["ready"], unknown["in_rate"]) == (True, None, None)
    assert line_of(told, place.names.dead("backward"))["there"] is False


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, "knows nothing there"), ({"error": "x"}, "no management API"), ([1], "no management API")],
)
def test_a_management_api_that_does_not_tell_costs_the_rates_only(top, place, answer, reason):
    """Its reason is said, and no password."""
    with management({ASKED: answer}) as api:
        told = top("--json", "--management-url", api.url())
    assert line_of(told, place.names.work("forward"))["ready"] == 1
    assert reason in told["notes"][0]
    assert "s@cret" not in str(told)
    assert "s%40cret" not in str(told)


def test_workers_and_models_are_read_from_the_metrics(top, monkeypatch):
    """Named by options or by the environment; one that does not answer is a line."""
    with metrics(worker(jobs=8, failed=2, calls=100)) as one, metrics(worker(jobs=1)) as other:
        told = top("--json", "--worker", one.url, "--worker", f"127.0.0.1:1,{other.url}")
        monkeypatch.setenv("BACKTALK_WORKERS", f"{one.url}, {other.url}")
        printed = top("--once")
    assert [(it["role"], it["up"], it["failed"], it["problem"]) for it in told["workers"]] == [
        ("forward", True, 0.2, None),
        ("", False, None, "does not answer: Connection refused"),
        ("forward", True, 0.0, None),
    ]
    (model,) = (it for it in told["models"] if it["model"])
    assert (model["endpoint"], model["input"], model["output"]) == ("openai", 100_000, 20_000)
    # half of the input at 1.25 dollars a million tokens, half at 2.50, the output at 10
    assert model["cost_usd"] == pytest.approx(0.3875)
    assert {"what": "job failed", "code": "invalid_message"}.items() <= told["troubles"][0].items()
    assert "openai gpt-4o" in printed
    assert "\x1b" not in printed


def test_without_a_broker_the_workers_are_shown(top, monkeypatch):
    """Where nobody answers at all, it fails."""
    monkeypatch.setattr("backtalk.cli.top.PATIENCE", 0)
    nowhere = "amqp://ops:secret@127.0.0.1:1/"
    with metrics(worker(jobs=1)) as one:
        told = top("--json", "--worker", one.url, url=nowhere)
    assert told["workers"][0]["up"]
    assert {line["there"] for line in told["queues"]} == {None}
    assert "no broker answered" in told["notes"][1]
    assert "secret" not in top("--worker", "127.0.0.1:1", url=nowhere, code=1)


def test_a_broker_that_says_nothing_is_not_waited_for(top, monkeypatch):
    """It takes the connection, and that is all."""
    monkeypatch.setattr("backtalk.cli.top.PATIENCE", 0)
    monkeypatch.setattr("backtalk.operate.levels._GRACE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, metrics(worker()) as one:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        told = top("--json", "--worker", one.url, url=url)
    assert told["notes"][1] == "the broker does not answer"
    assert told["workers"][0]["up"]


def test_an_address_that_is_none_is_a_mistake(top):
    """It is not repeated where a password stands in it."""
    assert "secret" not in top("--worker", "http://me:secret@worker", code=2)


def test_without_the_parser_the_queues_are_shown(top, place, monkeypatch):
    """The light install has none; it says how to get it."""
    monkeypatch.setattr("backtalk.cli.top.find_spec", lambda _: None)
    told = top("--json", "--worker", "127.0.0.1:1")
    assert line_of(told, place.names.work("forward"))["ready"] == 1
    assert "pip install 'backtalk[workers]'" in told["notes"][-1]


def test_in_a_terminal_it_is_live_until_ctrl_c(place):
    """On a screen of its own, which is gone afterwards, and the cursor is back."""
    with metrics(worker(jobs=3, calls=5)) as one:
        command = [
            Path(sys.executable).with_name("backtalk"),
            "top",
            "--interval",
            "0.1",
            "--worker",
            one.url,
        ]
        environment = os.environ | {
            "BACKTALK_AMQP_URL": place.url,
            "BACKTALK_NAMESPACE": place.names.namespace,
            "TERM": "xterm",
        }
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        # whatever goes wrong, the end of the process ends the reading
        end = Timer(20, process.send_signal, (signal.SIGKILL,))
        end.start()
        drawn = read_until(ours, "gpt-4o", times=2)
        process.send_signal(signal.SIGINT)
        drawn += read_until(ours, None)
        os.close(ours)
        assert process.wait() == 0
        end.cancel()
    assert drawn.startswith(ENTER_SCREEN)
    assert drawn.rindex(LEAVE_SCREEN) > drawn.rindex("gpt-4o")
    assert SHOW_CURSOR in drawn
    assert "Traceback" not in drawn


def read_until(terminal, text, *, times=1):
    """Return what is written to a terminal until a text was there so often, or to the end."""
    read = ""
    while text is None or read.count(text) < times:
        try:
            read += os.read(terminal, 65536).decode("utf-8", "replace")
        except OSError:
            break
    return read
