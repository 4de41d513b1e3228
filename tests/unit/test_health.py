"""What an orchestrator is told of a worker."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
import urllib.request
from contextlib import ExitStack
from http import HTTPStatus
from urllib.error import HTTPError

import pytest

from backtalk.runtime import health
from backtalk.runtime.health import LATE_SECONDS, Heart, PortTaken, report, served

READY = {"ready": True, "connected": True}
NOT_READY = {"ready": False, "connected": True}


def heart(late=0.0):
    """Return a heart that has not beaten for so many seconds."""
    times = iter([100.0])
    return Heart(lambda: next(times, 100.0 + late))


@pytest.mark.parametrize(
    ("path", "late", "conditions", "status", "body"),
    [
        ("/live", 0.0, NOT_READY, 200, {"live": True, "late_seconds": 0.0}),
        ("/live", LATE_SECONDS - 0.01, READY, 200, {"live": True, "late_seconds": 20.0}),
        ("/live", LATE_SECONDS, READY, 503, {"live": False, "late_seconds": 20.0}),
        ("/live", 61.24, READY, 503, {"live": False, "late_seconds": 61.2}),
        ("/ready", 0.0, READY, 200, READY),
        ("/ready", 0.0, NOT_READY, 503, NOT_READY),
        ("/ready", 61.0, READY, 200, READY),
        ("/", 0.0, READY, 404, {"error": "there are /live, /ready and /metrics"}),
        ("/metrics/", 0.0, READY, 404, {"error": "there are /live, /ready and /metrics"}),
        ("/live/", 0.0, READY, 404, {"error": "there are /live, /ready and /metrics"}),
    ],
)
def test_a_report_tells_by_its_status_and_says_why(path, late, conditions, status, body):
    """A worker that is not ready lives, and one whose loop hangs does not, whatever else it says."""
    assert report(path, heart(late), lambda: conditions) == (HTTPStatus(status), body)


def asked(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.headers["Content-Type"], json.load(response)
    except HTTPError as error:
        return error.code, error.headers["Content-Type"], json.load(error)


@pytest.mark.parametrize(
    ("host", "place"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")], ids=["IPv4", "IPv6"]
)
def test_a_report_is_served_on_either_protocol(host, place):
    """As JSON, at the port that was free."""
    with served(host, 0, heart(), lambda: NOT_READY) as port:
        assert asked(f"http://{place}:{port}/live")[0] == 200
        assert asked(f"http://{place}:{port}/ready") == (503, "application/json", NOT_READY)


def test_what_is_told_is_what_is_so_at_that_moment():
    """Nothing is kept from one question to the next."""
    conditions = dict(READY)
    with served("127.0.0.1", 0, heart(), lambda: conditions) as port:
        assert asked(f"http://127.0.0.1:{port}/ready")[0] == 200
        conditions["ready"] = False
        assert asked(f"http://127.0.0.1:{port}/ready")[0] == 503


async def test_it_is_answered_while_the_event_loop_hangs():
    """That is what it is for: the thread beside the loop says how late it is."""
    beat = Heart()
    with served("127.0.0.1", 0, beat, lambda: READY) as port:
        # the loop does nothing else meanwhile
        time.sleep(0.05)  # noqa: ASYNC251
        status, _, told = asked(f"http://127.0.0.1:{port}/live")
    assert (status, told["live"]) == (200, True)
    assert beat.late >= 0.05


def test_a_client_that_says_nothing_keeps_nobody_waiting():
    """Others are answered beside it."""
    with (
        served("127.0.0.1", 0, heart(), lambda: READY) as port,
        socket.create_connection(("127.0.0.1", port)),
    ):
        assert asked(f"http://127.0.0.1:{port}/ready")[0] == 200


def test_a_client_that_goes_away_is_no_news(capfd):
    """Standard error is the log, and anybody may knock."""
    with served("127.0.0.1", 0, Heart(), lambda: {"ready": True}) as port:
        knocking = socket.create_connection(("127.0.0.1", port))
        knocking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        knocking.sendall(b"GET")
        knocking.close()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            assert answer.status == 200
        time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_many_clients_at_once_are_let_in():
    """Probes among them: who finds the door full comes again after a second."""
    began = time.monotonic()
    with served("127.0.0.1", 0, Heart(), lambda: {"ready": True}) as port, ExitStack() as clients:
        for _ in range(50):
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert time.monotonic() - began < 1


def test_after_the_end_nobody_answers():
    """The port is free again."""
    with served("127.0.0.1", 0, heart(), lambda: READY) as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_told_with_its_place(host):
    """An operator has to know which one."""
    with (
        served(host, 0, heart(), lambda: READY) as port,
        pytest.raises(PortTaken, match=f"{host} port {port}: Address already in use"),
        served(host, port, heart(), lambda: READY),
    ):
        pytest.fail("two cannot listen there")


def test_a_host_that_is_not_ours_is_told_too():
    """Nothing of it is a traceback."""
    with (
        pytest.raises(PortTaken, match=r"192\.0\.2\.1 port 0"),
        served("192.0.2.1", 0, heart(), lambda: READY),
    ):
        pytest.fail("nobody has that address")


async def test_a_heart_beats_as_long_as_its_loop_turns(monkeypatch):
    """And no longer than the block."""
    monkeypatch.setattr(health, "BEAT_SECONDS", 0.0)
    beats = []
    beating = Heart(lambda: beats.append(1) or float(len(beats)))
    async with beating.beating():
        await asyncio.sleep(0.01)
        assert len(beats) > 3
    counted = len(beats)
    await asyncio.sleep(0.01)
    assert len(beats) == counted
