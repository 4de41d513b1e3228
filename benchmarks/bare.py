"""The two bare consumers Backtalk is held against: the same work by aio-pika and the openai SDK alone."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import httpx2
import jinja2
import uvloop
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from openai import AsyncOpenAI, DefaultAioHttpClient
from pydantic import BaseModel

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

PROMPT = jinja2.Template("{{ text }}\n\nKeep to the instructions above.", autoescape=False)


class ChatMessage(BaseModel):
    role: str
    content: str


class Job(BaseModel):
    model: str
    messages: list[ChatMessage]
    inputs: dict[str, str] = {}


class Answer(BaseModel):
    id: str
    completion: dict[str, Any]


def request_body(job: Job) -> dict[str, Any]:
    return {"model": job.model, "messages": [filled(message, job.inputs) for message in job.messages]}


def filled(message: ChatMessage, inputs: dict[str, str]) -> dict[str, str]:
    if message.role != "user":
        return {"role": message.role, "content": message.content}
    text = message.content
    for name, value in inputs.items():
        text = text.replace("{" + name + "}", value)
    return {"role": message.role, "content": PROMPT.render(text=text)}


def default_client(_in_flight: int) -> AsyncOpenAI:
    return AsyncOpenAI()


def fast_client(in_flight: int, base_url: str | None = None, api_key: str | None = None) -> AsyncOpenAI:
    limits = httpx2.Limits(max_connections=2 * in_flight, max_keepalive_connections=2 * in_flight)
    http_client = DefaultAioHttpClient(limits=limits)
    return AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, http_client=http_client)


async def ask_by_defaults(client: AsyncOpenAI, body: dict[str, Any]) -> dict[str, Any]:
    completion = await client.chat.completions.create(**body)
    dumped: dict[str, Any] = completion.model_dump()
    return dumped


async def ask_fast(client: AsyncOpenAI, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response)
    completion: dict[str, Any] = response.json()
    return completion


class Consumer:
    """Settles as Backtalk does: the answer is confirmed, then the job is acknowledged."""

    def __init__(self, ask: Ask, publishing: AbstractChannel) -> None:
        self.ask = ask
        self.publishing = publishing

    async def handle(self, message: AbstractIncomingMessage) -> None:
        job = Job.model_validate_json(message.body)
        completion = await self.ask(request_body(job))
        answer = Answer(id=message.message_id or "", completion=completion)
        await self.publish(message, answer.model_dump_json().encode())
        await message.ack()

    async def publish(self, request: AbstractIncomingMessage, body: bytes) -> None:
        assert request.reply_to is not None
        answer = aio_pika.Message(
            body,
            message_id=f"{request.message_id}-answer",
            correlation_id=request.correlation_id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self.publishing.default_exchange.publish(answer, request.reply_to, mandatory=True)


async def consume(style: str) -> None:
    in_flight = int(os.environ["BACKTALK_CONCURRENCY"])
    make_client, ask = STYLES[style]
    connection = await aio_pika.connect_robust(os.environ["BACKTALK_AMQP_URL"])
    async with connection, make_client(in_flight) as client:
        consuming = await connection.channel()
        publishing = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await consuming.set_qos(prefetch_count=in_flight)
        name = os.environ["BACKTALK_NAMESPACE"] + ".forward"
        queue = await consuming.declare_queue(name, passive=True)
        await queue.consume(Consumer(lambda body: ask(client, body), publishing).handle)
        await asyncio.Event().wait()


STYLES: dict[str, tuple[Callable[[int], AsyncOpenAI], Callable[[AsyncOpenAI, dict[str, Any]], Any]]] = {
    "defaults": (default_client, ask_by_defaults),
    "fast": (fast_client, ask_fast),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=sorted(STYLES), required=True)
    style: str = parser.parse_args().style
    run = uvloop.run if style == "fast" else asyncio.run
    run(consume(style))


if __name__ == "__main__":
    main()
