"""The metrics of workers: how they are found, fetched and read, and that no worker's trouble is ours."""

import asyncio
import socket
import threading
from contextlib import suppress

import pytest
from fixtures.management import management
from fixtures.metrics import metrics, worker

from backtalk.operate import scrape as scraping
from backtalk.operate.rates import total
from backtalk.operate.scrape import NoWorkerAddress, address, parse, scrape


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("worker", "http://worker:8081/metrics"),
        ("worker:9000", "http://worker:9000/metrics"),
        ("http://worker:8081", "http://worker:8081/metrics"),
        ("http://worker:8081/", "http://worker:8081/metrics"),
        ("https://example.org/w1/metrics", "https://example.org/w1/metrics"),
        ("[::1]:8081", "http://[::1]:8081/metrics"),
    ],
)
def test_a_host_name_is_address_enough(told, url):
    """The port and the path are those of every worker, unless one says otherwise."""
    assert address(told).geturl() == url


@pytest.mark.parametrize(
    "told", ["", "http://", "ftp://worker", "worker:port", "file:///etc/passwd", "http://u:secret@worker"]
)
def test_what_is_no_address_of_a_worker_is_refused(told):
    """Without repeating a password."""
    with pytest.raises(NoWorkerAddress, match="should be http://") as raised:
        address(told)
    assert "secret" not in str(raised.value)


async def test_workers_tell_what_they_have_done():
    """Each under its own address; what is not Backtalk's is left out."""
    with metrics(worker(jobs=3)) as one, metrics(worker(jobs=4)) as other:
        found = await scrape([address(one.url), address(other.url), address(one.url)])
    assert [(it.worker, total(it.samples, "backtalk_jobs_total", outcome="completed")) for it in found] == [
        (f"127.0.0.1:{one.port}", 3),
        (f"127.0.0.1:{other.port}", 4),
    ]
    assert not any(name.startswith("process_") for name, _ in found[0].samples)


async def test_a_worker_that_gives_no_metrics_is_told_with_the_reason():
    """And the others are asked all the same."""
    with metrics("") as none, metrics('{"ready": true}\n') as other, metrics(worker()) as good:
        gone = address("127.0.0.1:1")
        found = await scrape([address(none.url), address(other.url), gone, address(good.url)])
    assert [one.problem for one in found] == [
        "answers 404: is it a worker, and one that serves metrics?",
        "what it answers are no metrics",
        "does not answer: Connection refused",
        None,
    ]


async def test_a_worker_that_is_silent_is_not_waited_for(monkeypatch):
    """One that hangs accepts connections, and says nothing."""
    monkeypatch.setattr(scraping, "SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (found,) = await scrape([address(f"127.0.0.1:{silent.getsockname()[1]}")])
    assert found.problem == "does not answer: timed out"


async def test_a_worker_that_never_comes_to_an_end_is_not_waited_for(monkeypatch):
    """One that says a little now and then is never silent for long."""
    monkeypatch.setattr(scraping, "SECONDS", 0.2)
    gone = threading.Event()

    def babble(listening):
        speaker, _ = listening.accept()
        with speaker, suppress(OSError):
            speaker.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not gone.wait(0.05):
                speaker.sendall(b"#")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=babble, args=(listening,))
        thread.start()
        try:
            async with asyncio.timeout(5):
                (found,) = await scrape([address(f"127.0.0.1:{listening.getsockname()[1]}")])
        finally:
            gone.set()
            thread.join()
    assert found.problem == "does not answer: timed out"


async def test_nobody_is_followed_elsewhere():
    """What redirects is no worker."""
    with management({}) as other, management({}) as api:
        api.elsewhere = f"http://127.0.0.1:{other.port}/metrics"
        (found,) = await scrape([address(f"127.0.0.1:{api.port}")])
        assert other.asked == []
    assert found.problem == "answers 302"


async def test_a_name_of_several_addresses_means_all_of_them(monkeypatch):
    """As the name of a service that was scaled; those of IPv6 are the same workers again."""
    known = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    with metrics(worker()) as one:
        monkeypatch.setattr(scraping.socket, "getaddrinfo", lambda *_, **__: known)
        places = scraping._places(address(f"forward-worker:{one.port}"))
        monkeypatch.undo()
        assert places == tuple(
            (f"forward-worker:{one.port} {host}", f"http://{host}:{one.port}/metrics")
            for host in ("127.0.0.1", "127.0.0.2")
        )
        assert scraping._ask(*places[0]).problem is None


async def test_a_name_that_is_not_known_is_a_worker_that_does_not_answer(monkeypatch):
    """Its container may just be starting."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(scraping.socket, "getaddrinfo", unknown)
    (found,) = await scrape([address("backward-worker")])
    assert (found.worker, found.problem) == (
        "backward-worker:8081",
        "does not answer: Name or service not known",
    )


def test_what_is_no_number_is_left_out():
    """Nobody can add it up, or write it as JSON."""
    assert dict(parse("backtalk_a NaN\nbacktalk_b +Inf\nbacktalk_d 1e308\nbacktalk_c 1\n")) == {
        ("backtalk_c", ()): 1.0
    }


@pytest.mark.parametrize(
    "text", ["<html>", "a{", 'backtalk_a{b="c} 1', "backtalk_a one", 'a_bucket{le="x"} 1', "# TYPE\nx y z w"]
)
def test_what_is_no_prometheus_text_is_refused(text):
    """By one type, whatever the parser makes of it."""
    with pytest.raises(ValueError, match="no metrics"):
        dict(parse(text))
