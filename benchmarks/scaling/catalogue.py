"""The scenarios of docs/scaling.md, by name."""

from dataclasses import replace

from benchmarks.scaling.scenario import Load, Model, Scaling, Scenario, Workers
from benchmarks.scaling.sizing import HOURLY, SECONDS

BURSTS = Scenario(Load(100_000, hours=2, shape="bursts", peak=5), Model(5), scaling=Scaling(most=150))
DAY = Scenario(Load(10_000, hours=24, shape="day", peak=10), Model(5))
MILLION = Scenario(Load(1_000_000, hours=0.5), Model(5))

SCENARIOS = {
    **{
        f"{per_hour:,}/h at {seconds} s": Scenario(Load(per_hour), Model(seconds))
        for per_hour in HOURLY
        for seconds in SECONDS
    },
    "bursts": BURSTS,
    "bursts, at most 20": replace(BURSTS, scaling=replace(BURSTS.scaling, most=20)),
    "bursts, value 128": replace(BURSTS, scaling=replace(BURSTS.scaling, value=128)),
    "bursts, at least 15": replace(BURSTS, scaling=replace(BURSTS.scaling, least=15)),
    "bursts, workers of 512": replace(BURSTS, workers=Workers(512)),
    "day": DAY,
    "day, start 120 s": replace(DAY, workers=replace(DAY.workers, start_seconds=120)),
    "1,000,000/h at 5 s, workers of 512": replace(MILLION, workers=Workers(512)),
    "1,000,000/h at 5 s, endpoint 250 calls/s": replace(
        MILLION, model=Model(5, calls_per_second=250), scaling=Scaling(most=150)
    ),
}
