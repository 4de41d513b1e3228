"""Between aio-pika's messages and ours."""

from __future__ import annotations

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from backtalk.transport.envelope import Delivery, Envelope
from backtalk.transport.rabbitmq.connecting import LOST


def to_message(envelope: Envelope) -> aio_pika.Message:
    return aio_pika.Message(
        envelope.body,
        headers=dict(envelope.headers),
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=envelope.correlation_id,
        reply_to=envelope.reply_to,
        message_id=envelope.message_id,
        timestamp=envelope.timestamp,
        type=envelope.type,
    )


def to_delivery(message: AbstractIncomingMessage, queue: str) -> Delivery:
    async def ack() -> bool:
        try:
            # as message.ack() does, but without a pause for the socket to drain
            await message.channel.basic_ack(message.delivery_tag or 0, wait=False)
        except LOST:
            # the channel is gone and with it the delivery: the broker gives the message to somebody again
            return False
        return True

    envelope = Envelope(
        body=message.body,
        message_id=message.message_id or None,
        correlation_id=message.correlation_id or None,
        reply_to=message.reply_to or None,
        type=message.type or None,
        content_type=message.content_type or None,
        content_encoding=message.content_encoding or None,
        timestamp=message.timestamp.timestamp() if message.timestamp else None,
        headers=message.headers or {},
    )
    return Delivery(envelope, queue, bool(message.redelivered), ack)
