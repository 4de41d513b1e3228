"""A connection for one visit: it does not come back when it is lost, and its end is not waited for for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractConnection

from backtalk.transport.envelope import TransportError, Unconfirmed
from backtalk.transport.rabbitmq.connecting import LOST, plain

CLOSE_SECONDS: Final = 3.0


@asynccontextmanager
async def visit(url: str, *, patience: float) -> AsyncIterator[AbstractConnection]:
    """Connect for what is done inside; raises BrokerUnreachable, and TransportError for what is lost on the way."""
    connection = await plain(url, "backtalk operator", patience)
    try:
        yield connection
    except amqp.ChannelClosed as error:
        raise TransportError(f"the broker refused: {error}") from error
    except (*LOST, TimeoutError) as error:
        raise Unconfirmed(f"the connection was lost on the way ({type(error).__name__}: {error})") from error
    finally:
        # a broker with an alarm does not read what it is sent, not even a goodbye
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await connection.close()
