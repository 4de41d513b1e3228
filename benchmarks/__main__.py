"""Runs every measurement, or those named, on one broker, and prints one table."""

import argparse
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import aio_pika
import uvloop

from backtalk.local.broker import BrokerFailed, PrivateBroker
from backtalk.local.redis_server import RedisFailed
from benchmarks import backward, beside_textgrad, forward, graphs, idle, scale, store, tools
from benchmarks.broker import Stage
from benchmarks.table import Row, rendered

Measurement = Callable[[Stage], Awaitable[list[Row]]]

MEASUREMENTS: dict[str, Measurement] = {
    "cpu": forward.cpu,
    "store": store.store,
    "50ms": forward.at_50_ms,
    "500ms": forward.at_500_ms,
    "idle": idle.idle,
    "backward": backward.backward,
    "textgrad": beside_textgrad.textgrad,
    "scale": scale.scale,
    "graphs": graphs.graphs,
    "tools": tools.tools,
}


@asynccontextmanager
async def broker_url() -> AsyncIterator[str]:
    if url := os.environ.get("BACKTALK_AMQP_URL"):
        yield url
        return
    async with PrivateBroker() as broker:
        yield broker.url


async def run(names: Sequence[str]) -> None:
    rows: list[Row] = []
    async with broker_url() as url, await aio_pika.connect(url) as connection:
        stage = Stage(url, connection)
        try:
            for name in names:
                rows += await timed(name, stage)
        finally:
            print(rendered(rows))
            await stage.clear()


async def timed(name: str, stage: Stage) -> list[Row]:
    began = time.monotonic()
    rows = await MEASUREMENTS[name](stage)
    print(f"{name}: measured in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASUREMENTS))
    names = parser.parse_args().names or list(MEASUREMENTS)
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        parser.error(f"no measurement is called {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    try:
        uvloop.run(run(names))
    except (BrokerFailed, RedisFailed) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
