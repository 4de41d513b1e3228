"""RabbitMQ through aio-pika: connect, declare, publish with confirm, consume for ever.

The one package that knows AMQP; it knows no jobs. The facts behind its odd lines were measured on RabbitMQ 3.10
and 4.0.
"""

from backtalk.transport.rabbitmq import lenient
from backtalk.transport.rabbitmq.broker import Broker, Consumer, connect
from backtalk.transport.rabbitmq.declaring import declare

lenient.install()

__all__ = ["Broker", "Consumer", "connect", "declare"]
