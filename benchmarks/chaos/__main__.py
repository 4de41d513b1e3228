"""Inject faults at random under load, and say which promises held. Exits with 1 where one did not."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from backtalk.local.broker import BrokerFailed
from backtalk.local.redis_server import RedisFailed
from benchmarks.chaos.faults import FAULTS
from benchmarks.chaos.report import as_json, figures, table
from benchmarks.chaos.run import Outcome, Plan, run

_USUAL_SECONDS: Final = 600.0
_BROKEN: Final = 1
_INTERRUPTED: Final = 130
_EPILOG: Final = f"""\
faults: {", ".join(FAULTS)}

Ctrl-C ends the run in order and reports what there is so far; a second one ends it at once.

examples:
  python -m benchmarks.chaos
  python -m benchmarks.chaos --rounds 20 --no-store
  python -m benchmarks.chaos --seconds 120 --seed 7 --faults sigkill,crash,deadly --json report.json
"""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, help=f"length of the run (default: {_USUAL_SECONDS:g})")
    length.add_argument("--rounds", type=int, help="faults to inject, instead of a length")
    parser.add_argument("--seed", type=int, help="repeats the choices of another run (default: a new one)")
    parser.add_argument(
        "--store",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the workers have a result store (default: yes)",
    )
    parser.add_argument(
        "--faults", type=_named, default=list(FAULTS), help="the faults to choose from (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    return parser.parse_args(argv)


def _named(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in FAULTS]:
        raise argparse.ArgumentTypeError(
            f"no fault is called {', '.join(unknown)}; there are {', '.join(FAULTS)}"
        )
    return names


def _plan(given: argparse.Namespace) -> Plan:
    endless = given.seconds is None and given.rounds is None
    seed = random.randrange(10**6) if given.seed is None else given.seed
    seconds = _USUAL_SECONDS if endless else given.seconds
    return Plan(seed, given.store, seconds, given.rounds, given.faults)


async def _stoppable(plan: Plan, logs: Path) -> Outcome:
    """Run; the first Ctrl-C ends the run in order, the second one at once."""
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupted() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    return await run(plan, logs, stop)


def main(argv: Sequence[str] | None = None) -> int:
    given = _arguments(argv)
    logs = Path(tempfile.mkdtemp(prefix="backtalk-chaos-"))
    try:
        outcome = uvloop.run(_stoppable(_plan(given), logs))
    except (BrokerFailed, RedisFailed) as error:
        sys.exit(str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        shutil.rmtree(logs)
        return _INTERRUPTED
    told = figures(outcome)
    if given.json:
        given.json.write_text(as_json(told), "utf-8")
    print(table(told))
    if told["broken"]:
        print(f"what the workers said is in {logs}", file=sys.stderr)
        return _BROKEN
    shutil.rmtree(logs)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
