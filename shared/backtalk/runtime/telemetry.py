"""Logging, set up once at start: one line per message outcome, keyed by its id; never a body."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import structlog
from pydantic_core import to_json
from structlog.typing import FilteringBoundLogger, Processor

log: FilteringBoundLogger = structlog.get_logger()

# without the values of variables: they are bodies and keys
_TRACEBACK = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: Literal["debug", "info", "warning", "error"], form: Literal["json", "console"]) -> None:
    """Send our own lines to standard error as JSON or for people, and the libraries' warnings with them."""
    render, factory = _as_json() if form == "json" else _for_people()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(levelname)s %(name)s %(message)s"))
    # aio-pika logs bodies at DEBUG
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _OneLine(logging.Formatter):
    """The form of a library's line: nothing that it repeats of a message's headers looks like a line of ours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is the library's
        return super().formatMessage(record).encode("unicode_escape").decode("ascii")


def _as_json() -> tuple[list[Processor], Callable[..., Any]]:
    def serialize(event: Any, **_: Any) -> bytes:
        return to_json(event, fallback=repr)

    render: list[Processor] = [
        _TRACEBACK,
        structlog.processors.JSONRenderer(serialize),
    ]
    return render, structlog.BytesLoggerFactory(sys.stderr.buffer)


def _for_people() -> tuple[list[Processor], Callable[..., Any]]:
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [render], structlog.WriteLoggerFactory(sys.stderr)
