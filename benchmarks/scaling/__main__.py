"""How many workers a load takes: by arithmetic, by a simulation, and beside a worker that really runs."""

import argparse
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

import aio_pika
import uvloop

from backtalk.local.broker import BrokerFailed
from benchmarks.__main__ import broker_url
from benchmarks.broker import Stage
from benchmarks.scaling import reality, report, sizing
from benchmarks.scaling.catalogue import SCENARIOS
from benchmarks.scaling.reality import Trial
from benchmarks.scaling.scenario import Load, Model, Scaling, Scenario, Workers
from benchmarks.scaling.simulation import simulate
from benchmarks.scaling.throughput import throughput

FAR_APART = 1
INTERRUPTED = 130
SHAPES = ("steady", "bursts", "day")
EPILOG = """\
examples:
  python -m benchmarks.scaling size
  python -m benchmarks.scaling simulate                          all scenarios of docs/scaling.md
  python -m benchmarks.scaling simulate "bursts" "day"           some of them
  python -m benchmarks.scaling simulate --per-hour 250000 --model-seconds 8 --concurrency 256 --most 60
  python -m benchmarks.scaling simulate --per-hour 20000 --shape bursts --peak 10 --hours 3 --value 200
  python -m benchmarks.scaling check --concurrency 16 --filled 0.9
  BACKTALK_AMQP_URL=amqps://… python -m benchmarks.scaling broker
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = made.add_subparsers(dest="verb", required=True)
    verbs.add_parser(
        "size", help="workers, memory and messages by Little's law, for loads up to a million an hour"
    )
    add_simulate(
        verbs.add_parser("simulate", help="queue waits, workers and worker-hours under KEDA, from a seed")
    )
    add_check(
        verbs.add_parser("check", help="a real broker and worker beside the simulation, about a minute")
    )
    verbs.add_parser(
        "broker", help="messages a second that a broker takes, by size: BACKTALK_AMQP_URL, or a private one"
    )
    return made


def add_simulate(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("names", nargs="*", metavar="name", help=f"scenarios; all by default: {'; '.join(SCENARIOS)}")
    add("--per-hour", type=above_zero, help="simulates a load of your own, of so many jobs an hour")
    add("--shape", choices=SHAPES, default=Load.shape, help="how they come (default: steady)")
    add(
        "--peak", type=at_least_one, default=5.0, help="a burst, or noon, is so many times the quiet rate (5)"
    )
    add("--burst-seconds", type=above_zero, default=Load.burst_seconds, help="length of a burst (120)")
    add("--every-seconds", type=above_zero, default=Load.every_seconds, help="from one to the next (1800)")
    add("--hours", type=above_zero, default=Load.hours, help="how long they come (0.25)")
    add("--model-seconds", type=above_zero, default=5.0, help="mean latency of the model (5)")
    add("--spread", type=float, default=Model.spread, help="sigma of its logarithm, 0: fixed (0.5)")
    add("--calls-per-second", type=above_zero, help="the endpoint's limit (none)")
    add("--concurrency", type=whole, default=Workers.concurrency, help="BACKTALK_CONCURRENCY (64)")
    add(
        "--start-seconds", type=above_zero, default=Workers.start_seconds, help="until a worker consumes (20)"
    )
    add("--least", type=whole, default=Scaling.least, help="minReplicaCount (1)")
    add("--most", type=whole, default=Scaling.most, help="maxReplicaCount (200)")
    add("--value", type=above_zero, help="messages for each worker (three quarters of the concurrency)")
    add("--seed", type=int, default=1, help="another one is another run (1)")


def add_check(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("--concurrency", type=whole, default=Trial.concurrency, help="messages at once (8)")
    add("--model-seconds", type=above_zero, dest="seconds", default=Trial.seconds, help="fixed latency (0.5)")
    add("--filled", type=above_zero, default=Trial.filled, help="share of what the worker can do (0.8)")
    add("--lasting", type=above_zero, default=Trial.lasting, help="seconds of jobs (60)")
    add("--seed", type=int, default=Trial.seed, help="another one is another trace (1)")


def above_zero(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def at_least_one(text: str) -> float:
    value = float(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def own(arguments: argparse.Namespace) -> Scenario:
    """The scenario that the options describe; they bear the names of the fields."""
    given = vars(arguments)

    def of(kind: Any, **more: Any) -> Any:
        return kind(**{one.name: given[one.name] for one in fields(kind) if one.name in given} | more)

    model = of(Model, seconds=arguments.model_seconds)
    return Scenario(of(Load), model, of(Workers), of(Scaling), arguments.seed)


def chosen(arguments: argparse.Namespace, refuse: argparse.ArgumentParser) -> dict[str, Scenario]:
    if unknown := [name for name in arguments.names if name not in SCENARIOS]:
        refuse.error(f"no scenario is called {', '.join(unknown)}; there are {'; '.join(SCENARIOS)}")
    if arguments.per_hour:
        return {"yours": own(arguments)}
    return {name: SCENARIOS[name] for name in arguments.names or SCENARIOS}


@asynccontextmanager
async def stages() -> AsyncIterator[Stage]:
    async with broker_url() as url, await aio_pika.connect(url) as connection:
        stage = Stage(url, connection)
        try:
            yield stage
        finally:
            await stage.clear()


async def check(trial: Trial) -> int:
    """Print the simulation and what really happened, and return the exit code."""
    async with stages() as stage:
        rows, measured = await reality.compared(stage, trial)
    print(reality.told(rows))
    print(f"\na job of {measured.job_bytes:,} bytes, an answer of {measured.answer_bytes:,};")
    print(f"beside the model a single job took {measured.beside_seconds * 1000:.1f} ms")
    return 0 if all(row.near for row in rows) else FAR_APART


async def broker() -> int:
    async with stages() as stage:
        print(await throughput(stage))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    reading = parser()
    arguments = reading.parse_args(argv)
    if arguments.verb == "size":
        print(sizing.sized())
        return 0
    if arguments.verb == "simulate":
        scenarios = chosen(arguments, reading)
        print(report.told([report.Run(name, one, simulate(one)) for name, one in scenarios.items()]))
        return 0
    if arguments.verb == "broker":
        return ran(broker())
    return ran(check(Trial(**{one.name: getattr(arguments, one.name) for one in fields(Trial)})))


def ran(work: Coroutine[Any, Any, int]) -> int:
    try:
        return uvloop.run(work)
    except BrokerFailed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
