"""Connections that are waited for and come back by themselves: every one of the project is opened here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import aio_pika
from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractConnection, AbstractRobustConnection

from backtalk.transport.envelope import BrokerUnreachable, Unconfirmed
from backtalk.transport.rabbitmq.address import read_address
from backtalk.transport.rabbitmq.distrust import distrust

RECONNECT_SECONDS: Final = 1
CONNECT_SECONDS: Final = 10

# what a lost connection or channel looks like from a call that was using it
LOST: Final = (amqp.AMQPConnectionError, amqp.AMQPChannelError, ConnectionError, OSError, RuntimeError)

_Connection = TypeVar("_Connection", bound=AbstractConnection)
_Made = TypeVar("_Made")


async def plain(url: str, name: str, patience: float) -> AbstractConnection:
    """Open a connection for a moment's work; raises BadAddress, and BrokerUnreachable after `patience` seconds."""
    return await _opened(aio_pika.connect, url, name, patience)


async def robust(url: str, name: str, patience: float) -> AbstractRobustConnection:
    """Open a connection that comes back by itself; raises what `plain` raises."""
    return await _opened(aio_pika.connect_robust, url, name, patience, reconnect_interval=RECONNECT_SECONDS)


async def _opened(
    connect: Callable[..., Awaitable[_Connection]], url: str, name: str, patience: float, **options: Any
) -> _Connection:
    address = read_address(url)

    async def attempt() -> _Connection:
        try:
            return await connect(
                address.url,
                timeout=CONNECT_SECONDS,
                client_properties={"connection_name": name},
                heartbeat=address.heartbeat,
                ssl_context=address.tls,
                **options,
            )
        except LOST as error:
            if told := await distrust(error, address):
                raise BrokerUnreachable(told) from error
            if address.tls is None and isinstance(error.__cause__, ConnectionResetError):
                raise ConnectionResetError(
                    "connection reset; where the port speaks TLS, the URL begins with amqps://"
                ) from error
            raise

    return await patiently(attempt, patience)


async def patiently(connect: Callable[[], Awaitable[_Made]], patience: float) -> _Made:
    """Try until it succeeds, or until waiting cannot help; raises BrokerUnreachable."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await connect()
        except amqp.ChannelClosed:
            # the broker is there, and said no
            raise
        except amqp.ProbableAuthenticationError as error:
            raise BrokerUnreachable(f"the broker refused user, password or vhost: {error}") from error
        except (*LOST, TimeoutError) as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise BrokerUnreachable(
                    f"no broker answered within {patience:g} s ({_told(error)})"
                ) from error
            await asyncio.sleep(min(1.0, patience / 10))


@contextmanager
def typed(what: str) -> Iterator[None]:
    """Name a lost connection by a type of ours."""
    try:
        yield
    except (*LOST, TimeoutError) as error:
        raise Unconfirmed(f"the broker did not {what}: {type(error).__name__}") from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
