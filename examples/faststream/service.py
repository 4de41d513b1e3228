"""A service that enqueues a job, consumes its result, criticises it, and consumes the gradients.

It keeps nothing in memory between two messages, so it may be restarted at any moment. As a sample it ends when the
gradients of its job are there or something failed; without `finish` it would go on.
"""

import asyncio
import os
import sys
import uuid
from typing import Any

from aio_pika.exceptions import AMQPError, PublishError
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from pydantic import BaseModel

URL = os.environ.get("BACKTALK_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672/"
NAMESPACE = os.environ.get("BACKTALK_NAMESPACE") or "backtalk"
SECONDS = float(os.environ.get("SAMPLE_SECONDS") or 60)

PROMPT = {
    "id": "prompt-1",
    "data": "You are a helpful assistant.",
    "role": "system instruction",
    "requires_grad": True,
}
JOB = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": [PROMPT]},
        {"role": "user", "content": "Translate 'Hello' to {language}."},
    ],
    "inputs": {"language": "Italian"},
}
JOB_ID = f"faststream-{uuid.uuid4()}"

# answers wait here while the service is down; for a service that stays, without `x-expires`
ANSWERS = RabbitQueue(
    f"{NAMESPACE}.replies.faststream-sample", durable=True, arguments={"x-expires": 3_600_000}
)


class Error(BaseModel):
    """What went wrong, and what to do about it."""

    code: str
    message: str


class Answer(BaseModel):
    """What all answers have in common; docs/schemas has the rest."""

    id: str
    status: str
    error: Error | None = None


class Result(Answer):
    """The answer to a job."""

    completions: list[dict[str, Any]] = []
    output: str | None = None
    graph: dict[str, Any] | None = None


class Gradient(BaseModel):
    """What one operation says about one variable."""

    text: str


class Failure(BaseModel):
    """A gradient that could not be computed, and why."""

    error: Error


class Gradients(Answer):
    """The answer to feedback."""

    gradients: dict[str, list[Gradient]] = {}
    failures: list[Failure] = []


# a request that no queue takes is an error
broker = RabbitBroker(URL, timeout=SECONDS, default_channel=Channel(on_return_raises=True))
app = FastStream(broker)
# an answer that could not be worked on comes again; `reject` would lose it
answers = broker.subscriber(ANSWERS, ack_policy=AckPolicy.NACK_ON_ERROR)
problems: list[str] = []


def of_type(name: str):
    """Return what picks messages by their `type`."""
    return lambda message: message.raw_message.type == name


@app.after_startup
async def enqueue() -> None:
    await send("forward", JOB, JOB_ID)
    asyncio.get_running_loop().call_later(SECONDS, give_up, f"no gradients within {SECONDS:g} s")


async def send(role: str, request: dict[str, Any], id: str) -> None:
    await broker.publish(
        request,
        queue=f"{NAMESPACE}.{role}",
        message_id=id,
        reply_to=ANSWERS.name,
        persist=True,
        timeout=SECONDS,
    )


@answers(filter=of_type("completion.result.v1"))
async def completed(result: Result) -> None:
    if result.status != "completed":
        finish(result, result.error)
        return
    print("response:", result.completions[0]["choices"][0]["message"]["content"])
    criticism = {"variable": result.output, "text": "Use only capital letters."}
    # a result comes at least once; under the same id its feedback is the same work
    await send("backward", {"graph": result.graph, "feedback": [criticism]}, f"{result.id}.feedback")


@answers(filter=of_type("gradients.v1"))
async def differentiated(gradients: Gradients) -> None:
    for gradient in gradients.gradients.get(PROMPT["id"], ()):
        print("gradient:", gradient.text)
    finish(gradients, gradients.error or next((one.error for one in gradients.failures), None))


@answers()
async def ignore(_: dict[str, Any]) -> None:
    """Take what this service has no use for off the queue, as chunks of a stream."""


def finish(answer: Answer, error: Error | None) -> None:
    """End with the answer to our own request; others may be left of another run."""
    if answer.id not in (JOB_ID, f"{JOB_ID}.feedback"):
        return
    if answer.status != "completed":
        give_up(f"{type(answer).__name__} {answer.status}: {error and error.message}")
    app.exit()


def give_up(problem: str) -> None:
    problems.append(problem)
    app.exit()


if __name__ == "__main__":
    try:
        asyncio.run(app.run())
    except PublishError:
        sys.exit(f"no queue {NAMESPACE}.forward: the workers make their queues when they start")
    except AMQPError as error:
        sys.exit(f"the broker of BACKTALK_AMQP_URL: {error!r}")
    if problems:
        sys.exit(problems[0])
