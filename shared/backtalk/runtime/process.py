"""A worker as a process: settings, signals, exit codes, and the order in which things open and close."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from typing import Final

import uvloop
from pydantic import ValidationError

from backtalk.runtime.child import Command
from backtalk.runtime.handler import Handler
from backtalk.runtime.health import Heart, PortTaken, served
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.progress import Progress
from backtalk.runtime.serving import on_signals, serve, work_alone
from backtalk.runtime.settings import Settings
from backtalk.runtime.settings_told import explain, table
from backtalk.runtime.telemetry import configure, log
from backtalk.runtime.tracing import NO_TRACING, Tracing, tracing_for
from backtalk.transport.envelope import BadAddress, BrokerUnreachable, TopologyMismatch
from backtalk.wire.kinds import AnswerT, Kind, RequestT

DRAINED: Final = 0
BAD_SETTINGS: Final = 2
BAD_TOPOLOGY: Final = 3
NO_BROKER: Final = 4
_ALONE: Final = "--alone"

_FAILURES: Final[dict[type[Exception], tuple[int, str, str]]] = {
    PortTaken: (BAD_SETTINGS, "health cannot be served", "choose another BACKTALK_HEALTH_PORT"),
    BadAddress: (BAD_SETTINGS, "bad address", "correct BACKTALK_AMQP_URL"),
    TopologyMismatch: (BAD_TOPOLOGY, "topology mismatch", "see `backtalk topology check`"),
    BrokerUnreachable: (NO_BROKER, "no broker", "check BACKTALK_AMQP_URL and that RabbitMQ runs"),
}

_EPILOG: Final = """\
settings (environment variables) [default]:
{table}
  OPENAI_BASE_URL, OPENAI_API_KEY the default endpoint, named "openai"
  BACKTALK_SECRETS_DIR            folder of files that hold what is not in the environment [/run/secrets]
  OTEL_EXPORTER_OTLP_ENDPOINT     collector that gets the traces, by HTTP; OTEL_… as everywhere [none]

exit codes:
  0 drained after SIGTERM or SIGINT    1 its event loop hung    2 bad settings, or the health port is taken
  3 a queue is missing, or has other arguments    4 no broker    128 + n stopped at once by a second signal n

examples:
  OPENAI_BASE_URL=http://localhost:8000/v1 {role}-worker
  BACKTALK_AMQP_URL=amqp://user:password@broker/ BACKTALK_LOG_FORMAT=console {role}-worker
"""


def main(
    kind: Kind[RequestT, AnswerT], handler: Callable[[Settings], Handler[RequestT, AnswerT]], purpose: str
) -> int:
    """Run a worker until it is told to stop, and return its exit code."""
    alone = _parser(kind.role, purpose).parse_args().alone
    try:
        settings = Settings()
    except ValidationError as error:
        print(explain(error), file=sys.stderr)  # noqa: T201
        return BAD_SETTINGS
    try:
        handle = handler(settings)
        tracing = tracing_for(kind.role, settings.named_endpoints().values())
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return BAD_SETTINGS
    configure(settings.log_level, settings.log_format)
    log.info(
        "starting",
        role=kind.role,
        version=version("backtalk"),
        **settings.describe(),
        traces=tracing is not NO_TRACING,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(kind, handle, settings, tracing, alone=alone))
    except tuple(_FAILURES) as error:
        code, event, remedy = _FAILURES[type(error)]
        log.error(event, problem=str(error), remedy=remedy)
        return code
    finally:
        tracing.close()
    return DRAINED


async def _until_signal(
    kind: Kind[RequestT, AnswerT],
    handle: Handler[RequestT, AnswerT],
    settings: Settings,
    tracing: Tracing,
    *,
    alone: bool,
) -> None:
    stop = on_signals()
    heart = Heart()
    async with heart.beating(settings.hang_seconds):
        if alone:
            await work_alone(kind, handle, settings, stop=stop, tracing=tracing)
            return
        # as we were started ourselves
        again = Command((sys.executable, *sys.orig_argv[1:], _ALONE))
        progress, metrics = Progress(), Metrics(kind.role)
        metrics.watch_loop(heart.lag)
        with _health(settings, heart, progress, metrics):
            await serve(
                kind,
                handle,
                settings,
                child=again,
                stop=stop,
                progress=progress,
                metrics=metrics,
                tracing=tracing,
            )


def _health(
    settings: Settings, heart: Heart, progress: Progress, metrics: Metrics
) -> AbstractContextManager[object]:
    if settings.health_port is None:
        return nullcontext()
    return served(settings.health_host, settings.health_port, heart, progress.conditions, metrics.exposed)


def _parser(role: str, purpose: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{role}-worker",
        description=purpose,
        epilog=_EPILOG.format(role=role, table=table()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("backtalk"))
    # a worker starts itself so, with the message on standard input
    parser.add_argument(_ALONE, action="store_true", dest="alone", help=argparse.SUPPRESS)
    return parser
