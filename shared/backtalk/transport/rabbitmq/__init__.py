"""RabbitMQ through aio-pika: connect, declare, publish with confirm, consume for ever.

The one package that knows AMQP; it knows no jobs. The facts behind its odd lines were measured on RabbitMQ 3.10
and 4.0.
"""

from backtalk.transport.rabbitmq import lenient
from backtalk.transport.rabbitmq.address import read_address
from backtalk.transport.rabbitmq.broker import Broker, connect
from backtalk.transport.rabbitmq.consumer import Consumer
from backtalk.transport.rabbitmq.declaring import check, declare

lenient.install()

__all__ = ["Broker", "Consumer", "check", "connect", "declare", "read_address"]
