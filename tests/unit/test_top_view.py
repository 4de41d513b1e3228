"""What `backtalk top` makes of what it saw, and how it looks in a terminal."""

import io

import pytest
from fixtures.metrics import worker
from rich.console import Console

from backtalk.cli.top_tables import shown
from backtalk.operate.costs import Prices
from backtalk.operate.levels import Levels
from backtalk.operate.management import Level
from backtalk.operate.rates import Snapshot
from backtalk.operate.scrape import Scraped, parse
from backtalk.operate.view import view
from backtalk.transport.topology import Names, topology

QUEUES = [queue.name for queue in topology(Names("shop")).queues]
EMPTY = Levels(dict.fromkeys(QUEUES, Level(0, 1, 0, 0.0, 0.0)), ("a note",))


def seen(*looks, levels=EMPTY, priced=True):
    """Return the view of looks, four seconds apart, at workers named a, b, …; None is one that does not answer."""
    snapshots = tuple(
        Snapshot(
            4.0 * at,
            tuple(
                Scraped(name, {}, "does not answer: gone")
                if text is None
                else Scraped(name, dict(parse(text)))
                for name, text in zip("abcdefghijklmnopqrstuvwxyz", texts, strict=False)
            ),
        )
        for at, texts in enumerate(looks)
    )
    price = Prices(0.001, 0.01, 0.0005)
    return view("shop", levels, snapshots, lambda *_: price if priced else None)


def drawn(told, *, width=80, height=None):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(shown(told, height=height))
    return console.file.getvalue()


def test_workers_and_models_are_told_with_rates_latency_and_cost():
    """Of the time between the looks; totals are of all time, and of all workers."""
    told = seen(
        [worker(jobs=10, calls=10), worker(jobs=1)],
        [worker(jobs=26, failed=4, calls=30), worker(jobs=1, calls=10)],
    )
    one, other = told.workers
    assert (one.role, one.version, one.up, one.in_flight, one.lag) == ("forward", "0.1.0", True, 7, 0.002)
    assert (one.job_rate, one.failed) == (5.0, 0.2)
    assert one.wait_p95 == pytest.approx(0.095)
    assert (other.job_rate, other.failed) == (0.0, 0.0)
    idle, model = told.models
    assert (idle.endpoint, idle.model, idle.closed, idle.cost_usd) == ("local", "", 2, 0.0)
    assert (model.endpoint, model.model, model.closed, model.in_flight) == ("openai", "gpt-4o", 0, 10)
    assert (model.request_rate, model.input_rate, model.output_rate) == (7.5, 7500.0, 1500.0)
    assert model.p50 == pytest.approx(0.5 / 0.9)
    assert model.p95 == pytest.approx(2.5)
    assert (model.input, model.cached, model.output, model.reasoning) == (40_000, 20_000, 8_000, 2_000)
    assert model.cost_usd == pytest.approx(20 + 10 + 80)
    assert model.usd_per_hour == pytest.approx((3.75 + 1.875 + 15) * 3600)


def test_failures_are_told_by_code():
    """With how often, and how often lately; what did not happen is no line."""
    told = seen([worker(failed=2)], [worker(failed=6)])
    lines = {(one.what, one.where, one.code): (one.count, one.a_minute) for one in told.troubles}
    assert lines == {
        ("job failed", "forward", "invalid_message"): (6, 60.0),
        ("job put off", "forward", "upstream_unavailable"): (3, 0.0),
        ("call tried again", "openai", "429"): (11, 0.0),
    }


def test_one_look_tells_everything_but_rates():
    """Shares and latencies are those of all time."""
    told = seen([worker(jobs=3, failed=1, calls=10)])
    (one,), (_, model) = told.workers, told.models
    assert (one.job_rate, one.failed, told.seconds) == (None, 0.25, 0.0)
    assert (model.request_rate, model.usd_per_hour, model.input) == (None, None, 10_000)
    assert model.p95 == pytest.approx(2.5)
    assert [line.a_minute for line in told.troubles] == [None, None, None]


def test_a_worker_that_does_not_answer_is_a_line():
    """It counts nothing, and hides nobody."""
    told = seen([None, worker(jobs=3)], [None, worker(jobs=7)])
    assert [(one.problem, one.up, one.job_rate) for one in told.workers] == [
        ("does not answer: gone", False, None),
        (None, True, 1.0),
    ]
    assert "does not answer: gone" in drawn(told)


@pytest.mark.parametrize("height", [None, 30])
def test_no_worker_that_answers_is_a_table_as_well(height):
    """Where the columns of numbers have none: the state of a place where workers are yet to be started."""
    text = drawn(seen([None], [None]), height=height)
    assert "does not answer: gone" in text
    assert "shop.forward" not in text
    assert "forward.dead" in text


def test_an_unknown_price_is_no_0():
    """It is said, and the sum says that something is missing in it."""
    told = seen([worker(calls=1)], [worker(calls=2)], priced=False)
    assert [one.cost_usd for one in told.models] == [0.0, None]
    assert "unknown" in drawn(told)
    assert "0.0000 USD and models of unknown price" in drawn(told, width=120)


def test_a_name_from_a_sender_steers_no_terminal():
    """Models are called whatever somebody wrote into a job."""
    told = seen([worker(calls=1, model="m\x1b[2J[red]")])
    assert "m\\x1b[2J[red]" in drawn(told, width=200)


def test_queues_are_as_full_as_they_are():
    """Empty rungs are shown where there is room, and left out where there is none."""
    full = {
        **EMPTY.queues,
        "shop.forward": Level(1234, 0, 5, 2.0, 150.0),
        "shop.forward.retry.2m": Level(3, 0),
        "shop.backward.dead": None,
    }
    told = seen([], levels=Levels(full))
    lines = drawn(told, height=50).splitlines()
    assert [line.split()[0] for line in lines[3:]] == [
        "forward",
        "forward.retry.2m",
        "forward.dead",
        "backward",
        "backward.dead",
        "results.unrouted",
    ]
    assert lines[3].split() == ["forward", "1,234", "5", "2.0", "150", "0"]
    assert lines[4].split() == ["forward.retry.2m", "3", "–", "–", "–", "0"]
    assert lines[7].split() == ["backward.dead", "missing"]
    assert "forward.retry.5s" in drawn(told)


@pytest.mark.parametrize("height", [24, 40])
def test_what_does_not_fit_is_counted(height):
    """No table pushes another off the screen, and no line breaks."""
    told = seen([worker(jobs=1, calls=5)] * 26, [*[worker(jobs=2, failed=1, calls=9)] * 25, None])
    text = drawn(told, height=height)
    assert len(text.splitlines()) <= height
    assert "more workers" in text
    for heading in ("queue", "worker", "model", "trouble"):
        assert any(line.startswith(heading) for line in text.splitlines())
    # those to look at come first
    assert "gone" in text
