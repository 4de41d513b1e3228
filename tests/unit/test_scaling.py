"""The simulation of docs/scaling.md: it agrees with what is known exactly, and the tables are what it prints."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from benchmarks.scaling import report
from benchmarks.scaling.__main__ import main
from benchmarks.scaling.arrivals import arrivals
from benchmarks.scaling.catalogue import SCENARIOS
from benchmarks.scaling.scaler import Scaler
from benchmarks.scaling.scenario import Load, Model, Scaling, Scenario, Workers
from benchmarks.scaling.simulation import Simulation, simulate
from benchmarks.scaling.sizing import sized

DOC = (Path(__file__).parents[2] / "docs/scaling.md").read_text("utf-8")
# rows that take next to no time
QUICK = [
    name for name, scenario in SCENARIOS.items() if scenario.load.per_hour * scenario.load.hours < 30_000
]
FREE = {"cpu_seconds": 0.0, "beside_seconds": 0.0}


def alone(per_hour, model, *, hours=1.0, **workers):
    """Return a scenario of one worker that is never scaled."""
    return Scenario(Load(per_hour, hours), model, Workers(**workers), Scaling(least=1, most=1))


def test_waits_are_those_of_the_formula_for_one_server():
    """Pollaczek and Khinchine: jobs that come at random and all take as long, one at a time."""
    filled, seconds = 0.7, 1.0
    scenario = alone(filled * 3600, Model(seconds, spread=0), hours=20, concurrency=1, **FREE)
    expected = filled * seconds / (2 * (1 - filled))
    assert report.mean(simulate(scenario).waits) == pytest.approx(expected, rel=0.05)


def test_as_many_are_in_flight_as_littles_law_says():
    """Rate times latency, whatever its distribution."""
    outcome = simulate(Scenario(Load(36_000), Model(5)))
    assert outcome.busy_seconds / outcome.ended == pytest.approx(10 * 5, rel=0.05)


@pytest.mark.parametrize(
    ("workers", "per_second"),
    [({"concurrency": 10, **FREE}, 10 / 0.05), ({"concurrency": 100, "beside_seconds": 0.0}, 1 / 0.00074)],
)
def test_a_full_worker_does_what_its_slots_or_its_core_allow(workers, per_second):
    """The second is the measured worker of docs/performance.md, which did 1,338 jobs/s."""
    outcome = simulate(alone(1, Model(0.05, spread=0), **workers), [0.0] * 5000)
    assert len(outcome.waits) / outcome.ended == pytest.approx(per_second, rel=0.02)


def test_an_endpoint_is_asked_no_more_often_than_it_allows():
    """More workers change nothing of it."""
    model = Model(1, calls_per_second=20)
    outcome = simulate(Scenario(Load(36_000), model), [0.0] * 1000)
    assert outcome.ended >= 1000 / 20
    assert outcome.most_workers > 1


def test_a_seed_repeats_a_run():
    """And another one is another run, of as many jobs within chance."""
    scenario = Scenario(Load(20_000), Model(5))
    assert simulate(scenario) == simulate(scenario)
    assert simulate(replace(scenario, seed=2)) != simulate(scenario)


@pytest.mark.parametrize(
    ("load", "jobs"),
    [
        (Load(10_000, hours=1), 10_000),
        (Load(10_000, hours=1, shape="bursts", peak=4, burst_seconds=360), 10_000 * 1.6),
        (Load(500, hours=24, shape="day", peak=3), 500 * 24 * 2),
    ],
)
def test_jobs_come_as_often_as_their_load_says(load, jobs):
    """All within their hours, one after the other."""
    times = list(arrivals(load, Random(1)))
    assert len(times) == pytest.approx(jobs, rel=0.03)
    assert times == sorted(times)
    assert times[-1] < load.seconds


def test_workers_that_go_finish_what_they_have():
    """After a burst KEDA takes workers away: every job is answered once, and no worker ends while it is busy."""
    bursts = Load(5_000, hours=0.6, shape="bursts", peak=20, burst_seconds=60, every_seconds=900)
    run = Simulation(Scenario(bursts, Model(20), Workers(16)))
    outcome = run.run()
    came = list(arrivals(bursts, Random(1)))
    gone = [pod for pod in run.crowd.pods if pod.draining]
    assert len(outcome.answered) == len(came)
    assert run.in_flight == 0
    assert gone
    assert all(pod.busy == 0 and pod.ended <= outcome.ended for pod in gone)


def test_a_rise_is_followed_at_once_but_not_at_any_pace():
    """The workers double, or four are added, whatever is more."""
    scaler = Scaler(Scaling(), value=48)
    assert scaler.decide(0, messages=48 * 100, current=1) == 5
    assert scaler.decide(15, messages=48 * 100, current=20) == 40
    assert scaler.decide(30, messages=48 * 100, current=90) == 100


def test_a_fall_is_followed_when_it_lasts():
    """After five minutes a quarter of the workers may go within a minute."""
    scaler = Scaler(Scaling(), value=48)
    assert scaler.decide(0, messages=48 * 20, current=20) == 20
    assert scaler.decide(300, messages=48, current=20) == 20
    assert scaler.decide(315, messages=48, current=20) == 15
    assert scaler.decide(330, messages=48, current=15) == 15
    assert scaler.decide(375, messages=48, current=15) == 11


def test_a_tenth_more_or_less_is_left_alone():
    """As a HorizontalPodAutoscaler does."""
    scaler = Scaler(Scaling(), value=50)
    assert scaler.decide(0, messages=545, current=10) == 10
    assert scaler.decide(15, messages=560, current=10) == 12


def test_the_sizes_in_the_doc_are_those_of_the_command():
    """Whoever measures other figures changes both."""
    assert sized() in DOC


def test_the_simulated_rows_in_the_doc_are_what_the_command_prints(capsys):
    """The quick ones here; all of them have a row."""
    assert main(["simulate", *QUICK]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head in DOC
    assert len(rows) == len(QUICK) >= 6
    assert [row for row in rows if row not in DOC] == []
    assert [name for name in SCENARIOS if f"\n| {name} | " not in DOC] == []


def test_a_load_of_ones_own_is_simulated(capsys):
    """With the options under the names of what they set."""
    options = "--per-hour 3600 --model-seconds 2 --spread 0 --concurrency 4 --value 3 --least 2 --most 2 --hours 0.1"
    assert main(["simulate", *options.split()]) == 0
    *_, row = capsys.readouterr().out.splitlines()
    assert row.startswith("| yours | ")
    assert row.split(" | ")[2:4] == ["2.0", "2"]


@pytest.mark.parametrize(
    "wrong", [["simulate", "nothing"], ["simulate", "--per-hour", "-1"], ["check", "--concurrency", "0"]]
)
def test_what_cannot_be_meant_is_refused(wrong, capsys):
    """With a sentence, and without a run."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert capsys.readouterr().err
