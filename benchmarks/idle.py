"""What one job on an idle worker waits for beyond the model: its round trip less the bare call."""

import time
from statistics import median

from benchmarks.bare import Job, ask_fast, fast_client, request_body
from benchmarks.broker import Caller, Stage, caller
from benchmarks.contenders import BACKTALK, DEFAULTS, FAST, ORDER, Contender, limits, settings
from benchmarks.load import check
from benchmarks.processes import endpoint, worker
from benchmarks.table import Figures, Limit, Row

ROUNDS = 2
LATENCY = 0.01
JOBS = 100
WARM_UP = 20


async def idle(stage: Stage) -> list[Row]:
    waits: dict[str, list[float]] = {each.name: [] for each in ORDER}
    calls: list[float] = []
    async with endpoint(LATENCY) as base_url:
        for _ in range(ROUNDS):
            calls += await direct_calls(base_url)
            for contender in ORDER:
                waits[contender.name] += await round_trips(stage, contender, base_url)
    added = {name: (median(seconds) - median(calls)) * 1000 for name, seconds in waits.items()}
    figures = Figures(*(added[each.name] for each in (BACKTALK, FAST, DEFAULTS)))
    limits = [Limit(figures.backtalk, 4.5, unit=" ms")]
    return [figures.row("forward, one idle job: ms added to the bare call, p50", 1, limits)]


async def direct_calls(base_url: str) -> list[float]:
    body = request_body(Job.model_validate_json(FAST.job))
    seconds = []
    async with fast_client(1, base_url=base_url, api_key="sk-not-a-key") as client:
        for _ in range(WARM_UP + JOBS):
            began = time.perf_counter()
            await ask_fast(client, body)
            seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


async def round_trips(stage: Stage, contender: Contender, base_url: str) -> list[float]:
    namespace = await stage.declared(contender.name)
    environment = settings(stage, contender.name, base_url) | limits(100)
    async with (
        caller(stage, namespace, "forward") as calling,
        worker(contender.command, environment) as child,
    ):
        await child.outlives(stage.consumed(f"{namespace}.forward"))
        return await child.outlives(one_by_one(calling, contender))


async def one_by_one(calling: Caller, contender: Contender) -> list[float]:
    seconds = []
    for _ in range(WARM_UP + JOBS):
        waited, answer = await calling.ask(contender.job, "completion.job.v1")
        check(contender, [answer])
        seconds.append(waited)
    return seconds[WARM_UP:]
