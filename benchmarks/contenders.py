"""The three workers that are compared, and how an honest answer of each looks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.bodies import backtalk_job, bare_job
from benchmarks.broker import Stage


@dataclass(frozen=True)
class Contender:
    name: str
    command: tuple[str, ...]
    job: bytes
    answered: Callable[[dict[str, Any]], bool]


def recorded(answer: dict[str, Any]) -> bool:
    """Backtalk's answer holds the completion and the graph: neither may be saved on to be fast."""
    graph = answer["graph"]
    return answer["status"] == "completed" and len(graph["operations"]) == 1 and bool(answer["output"])


def completed(answer: dict[str, Any]) -> bool:
    return bool(answer["completion"]["choices"][0]["message"]["content"])


FAST = Contender("fast", ("benchmarks.bare", "--style", "fast"), bare_job(), completed)
BACKTALK = Contender("backtalk", ("forward_worker",), backtalk_job(), recorded)
DEFAULTS = Contender("defaults", ("benchmarks.bare", "--style", "defaults"), bare_job(), completed)

# Backtalk stands in the middle, so that a machine that slows down or recovers favours neither neighbour
ORDER = (FAST, BACKTALK, DEFAULTS)


def settings(stage: Stage, name: str, base_url: str) -> dict[str, str]:
    """The environment of a worker with the limits it has by default; the bare ones read the same names."""
    return {
        "BACKTALK_AMQP_URL": stage.url,
        "BACKTALK_NAMESPACE": stage.namespace(name),
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "sk-not-a-key",
    }


def limits(in_flight: int) -> dict[str, str]:
    """Settings for so many jobs and model calls at once."""
    return {"BACKTALK_CONCURRENCY": str(in_flight), "BACKTALK_MODEL_CONCURRENCY": str(in_flight)}
