"""What happened between two looks at workers, reckoned from counters that begin anew with each worker."""

import math

import pytest
from fixtures.metrics import LATENCY, worker

from backtalk.operate.rates import Snapshot, buckets, grown, merged, quantile, rates, summed, total
from backtalk.operate.scrape import Scraped, parse

JOBS = ("backtalk_jobs_total", (("code", ""), ("outcome", "completed"), ("queue", "forward")))


def samples(**done):
    return dict(parse(worker(**done)))


def look(at, **workers):
    """Return a look at workers: what each has done, or the problem it has."""
    told = (
        Scraped(name, {}, done) if isinstance(done, str) else Scraped(name, samples(**done))
        for name, done in workers.items()
    )
    return Snapshot(at, tuple(told))


def test_counters_are_told_by_the_second():
    """Ten jobs in four seconds; what is no counter has no rate."""
    found = rates([look(100.0, a={"jobs": 5}), look(104.0, a={"jobs": 15})])["a"]
    assert found[JOBS] == 2.5
    assert summed(found, "backtalk_jobs_in_flight") == {}


@pytest.mark.parametrize(("before", "after", "counted"), [(5, 15, 10), (15, 4, 4), (15, 15, 0)])
def test_a_counter_that_shrank_began_at_nothing(before, after, counted):
    """A worker that was restarted has done what it tells, and no less than nothing."""
    assert grown(samples(jobs=before), samples(jobs=after))[JOBS] == counted


def test_a_restart_is_noticed_for_all_counters_of_a_worker():
    """Also for those that have overtaken what they were: a histogram of two lives would be none."""
    found = grown(samples(jobs=50, calls=10), samples(jobs=1, calls=20))
    assert total(found, f"{LATENCY}_count") == 20
    assert quantile(buckets(found, LATENCY), 0.9) == 1.0


def test_a_series_that_is_gone_means_a_restart():
    """A worker that was just started tells nothing of what it has not done yet."""
    after = {series: value for series, value in samples(jobs=3).items() if "failed" not in str(series)}
    assert grown(samples(jobs=2, failed=1), after)[JOBS] == 3


def test_a_worker_counts_from_the_first_look_that_has_it():
    """One that was silent in between is no new one, and one that is new has no rates yet."""
    seen = [
        look(0.0, a={"jobs": 0}, b="does not answer"),
        look(2.0, a="does not answer", b={"jobs": 100}),
        look(10.0, a={"jobs": 20}, b={"jobs": 108}, c={"jobs": 7}, d="does not answer"),
    ]
    assert {name: one[JOBS] for name, one in rates(seen).items()} == {"a": 2.0, "b": 1.0}


def test_one_look_has_no_rates():
    """Nor has one at the same moment."""
    assert rates([look(1.0, a={"jobs": 1})]) == {}
    assert rates([]) == {}
    assert rates([look(1.0, a={"jobs": 1}), look(1.0, a={"jobs": 2})]) == {"a": {}}


def test_workers_are_added_up_and_labels_picked():
    """By the labels that are asked for."""
    both = merged([samples(jobs=2, failed=1), samples(jobs=3)])
    assert summed(both, "backtalk_jobs_total", "outcome") == {
        ("completed",): 5,
        ("failed",): 1,
        ("put_off",): 6,
    }
    assert total(both, "backtalk_jobs_total", code="invalid_message") == 1
    assert total(both, "backtalk_nothing_total") == 0


@pytest.mark.parametrize(
    ("share", "seconds"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 2.5), (0.9, 3.4), (0.95, 3.7)]
)
def test_quantiles_are_spread_evenly_within_their_bucket(share, seconds):
    """Half took up to a second, half up to four; as Prometheus reckons it."""
    histogram = {1.0: 50.0, 4.0: 100.0, math.inf: 100.0}
    assert quantile(histogram, share) == pytest.approx(seconds)


def test_beyond_the_last_bound_there_is_only_that_bound():
    """How slow the slowest were, nobody counted."""
    assert quantile({1.0: 50.0, 4.0: 80.0, math.inf: 100.0}, 0.95) == 4.0


@pytest.mark.parametrize("histogram", [{}, {1.0: 0.0, math.inf: 0.0}, {1.0: 5.0}, {math.inf: math.nan}])
def test_a_histogram_of_nothing_has_no_quantiles(histogram):
    """Nor one without its last bucket."""
    assert quantile(histogram, 0.5) is None
