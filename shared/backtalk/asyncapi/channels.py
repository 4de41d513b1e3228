"""Channels: where messages go in and come out, each with the arguments that the workers declare it with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from backtalk.asyncapi.messages import AMQP, ANSWERS, DEAD
from backtalk.transport.topology import ROLES, Exchange, Names, Queue, Topology, reply_queue, topology
from backtalk.wire.answer import Status
from backtalk.wire.control import CONTROL_TYPE
from backtalk.wire.kinds import BACKWARD, FORWARD, Kind

KINDS: Final[Mapping[str, Kind[Any, Any]]] = {kind.role: kind for kind in (FORWARD, BACKWARD)}
REPLIES: Final = "replies"
RESULTS: Final = "results"
CONTROL: Final = "control"
KEPT: Final = "results.unrouted"


def dead(role: str) -> str:
    return f"{role}.dead"


def by_key(role: str) -> str:
    return f"jobs.{role}"


def channels(names: Names) -> dict[str, Any]:
    """Return all channels by name; the queues between them are the workers' own, and stand in the topology."""
    declared = topology(names)
    exchanges = {exchange.name: exchange for exchange in declared.exchanges}
    roles: dict[str, Any] = {}
    for role in ROLES:
        roles |= _of_role(role, names, declared, exchanges[names.jobs])
    return {
        **roles,
        REPLIES: _replies(names),
        RESULTS: _results(names, exchanges[names.results]),
        KEPT: _kept(names, declared),
        CONTROL: _control(exchanges[names.control]),
    }


def _of_role(role: str, names: Names, declared: Topology, jobs: Exchange) -> dict[str, Any]:
    request = KINDS[role].request_type
    work, _ = declared.of(names.work(role))
    letters, _ = declared.of(names.dead(role))
    (key,) = (one.key for one in declared.bindings if one.exchange == jobs.name and one.queue == work.name)
    return {
        role: {
            "address": work.name,
            "title": f"The work queue of the {role} worker",
            "description": "Publish to the default exchange with the queue's name as the routing key.",
            "messages": _messages([request]),
            "bindings": _queue(work),
        },
        by_key(role): {
            "address": f"{role}.{{label}}",
            "title": f"The same, by the exchange `{jobs.name}`",
            "description": f"`{key}` leads to the queue `{work.name}`, so a routing key may say more than the role: "
            "for those who bind a queue of their own beside it.",
            "parameters": {
                "label": {"description": "Anything; Backtalk does not look at it.", "default": "job"}
            },
            "messages": _messages([request]),
            "bindings": _exchange(jobs),
        },
        dead(role): {
            "address": letters.name,
            "title": "Requests that could not be processed",
            "description": "For people: `backtalk dead list` shows it, `backtalk dead retry` sends it again.",
            "messages": _messages([f"{DEAD}{request}"]),
            "bindings": _queue(letters),
        },
    }


def _replies(names: Names) -> dict[str, Any]:
    queue = reply_queue(names, "<name>", lasting=False)
    return {
        "address": None,
        "title": "The queue that a request names in `reply_to`",
        "description": f"Declare it before you send: `{queue.name}` with the arguments below, or any queue of yours "
        f"outside of `{names.namespace}.`, or direct reply-to. Chunks and repeats come on it too: go by `type`, and "
        "acknowledge what you have no use for.",
        "messages": _messages(ANSWERS),
        "bindings": _queue(queue),
    }


def _results(names: Names, exchange: Exchange) -> dict[str, Any]:
    return {
        "address": "{role}.{status}",
        "title": "Answers to requests without `reply_to`",
        "description": f"Bind a queue of yours to `{exchange.name}`. What nobody is bound for, and answers that their "
        f"address did not take, lie in `{names.kept_results}`.",
        "parameters": {
            "role": {"description": "Which worker answers.", "enum": list(ROLES)},
            "status": {"description": "The answer's `status`.", "enum": list(get_args(Status))},
        },
        "messages": _messages(kind.answer_type for kind in KINDS.values()),
        "bindings": _exchange(exchange),
    }


def _kept(names: Names, declared: Topology) -> dict[str, Any]:
    queue, _ = declared.of(names.kept_results)
    return {
        "address": queue.name,
        "title": "Answers that nobody took",
        "description": "Kept for `x-message-ttl` milliseconds.",
        "messages": _messages(kind.answer_type for kind in KINDS.values()),
        "bindings": _queue(queue),
    }


def _control(exchange: Exchange) -> dict[str, Any]:
    return {
        "address": exchange.name,
        "title": "Orders to all workers",
        "description": f"Publish to the exchange `{exchange.name}` with any routing key: every worker that runs hears "
        "it. Nobody answers it; the request that is cancelled is answered.",
        "messages": _messages([CONTROL_TYPE]),
        "bindings": _exchange(exchange),
    }


def _messages(types: Iterable[str]) -> dict[str, Any]:
    return {type: {"$ref": f"#/components/messages/{type}"} for type in types}


def _queue(queue: Queue) -> Mapping[str, Any]:
    shape = {"name": queue.name, "durable": True, "exclusive": False, "autoDelete": False}
    return {"amqp": {"is": "queue", "queue": shape, "x-arguments": dict(queue.arguments), **AMQP}}


def _exchange(exchange: Exchange) -> Mapping[str, Any]:
    shape = {"name": exchange.name, "type": exchange.kind, "durable": True, "autoDelete": False}
    arguments = {"x-arguments": dict(exchange.arguments)} if exchange.arguments else {}
    return {"amqp": {"is": "routingKey", "exchange": shape, **arguments, **AMQP}}
