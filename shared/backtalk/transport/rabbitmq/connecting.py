"""Connections that are waited for and come back by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import aio_pika
from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractConnection, AbstractRobustConnection

from backtalk.transport.envelope import BrokerUnreachable

HEARTBEAT_SECONDS: Final = 30
RECONNECT_SECONDS: Final = 1
CONNECT_SECONDS: Final = 10

# what a lost connection or channel looks like from a call that was using it
LOST: Final = (amqp.AMQPConnectionError, amqp.AMQPChannelError, ConnectionError, OSError, RuntimeError)

_Connection = TypeVar("_Connection", bound=AbstractConnection)


async def robust(url: str, name: str, patience: float) -> AbstractRobustConnection:
    return await patiently(
        lambda: aio_pika.connect_robust(
            url,
            timeout=CONNECT_SECONDS,
            client_properties={"connection_name": name},
            heartbeat=HEARTBEAT_SECONDS,
            reconnect_interval=RECONNECT_SECONDS,
        ),
        patience,
    )


async def patiently(connect: Callable[[], Awaitable[_Connection]], patience: float) -> _Connection:
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await connect()
        except amqp.ProbableAuthenticationError as error:
            raise BrokerUnreachable(f"the broker refused user, password or vhost: {error}") from error
        except (*LOST, TimeoutError) as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise BrokerUnreachable(
                    f"no broker answered within {patience:g} s ({_told(error)})"
                ) from error
            await asyncio.sleep(min(1.0, patience / 10))


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
