"""A job, its response, feedback on it and the gradient of the prompt, with pika and nothing else."""

import json
import os
import sys
import uuid

import pika

URL = os.environ.get("BACKTALK_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672/"
NAMESPACE = os.environ.get("BACKTALK_NAMESPACE") or "backtalk"
SECONDS = float(os.environ.get("SAMPLE_SECONDS") or 60)
PROMPT = {
    "id": "prompt-1",
    "data": "You are a helpful assistant.",
    "role": "instruction",
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


def ask(channel, role, request):
    """Send a request to the workers of a role and return their answer; anything but a whole one ends the program."""
    reply_to = channel.queue_declare("", exclusive=True).method.queue
    properties = pika.BasicProperties(message_id=str(uuid.uuid4()), reply_to=reply_to, delivery_mode=2)
    channel.basic_publish("", f"{NAMESPACE}.{role}", json.dumps(request), properties, mandatory=True)
    _, _, body = next(channel.consume(reply_to, auto_ack=True, inactivity_timeout=SECONDS))
    channel.cancel()
    answer = json.loads(body) if body else sys.exit(f"no answer of a {role} worker within {SECONDS:g} s")
    if answer["status"] != "completed":
        sys.exit(f"{role} worker: {answer['status']}: {answer['error'] or answer['failures']}")
    return answer


parameters = pika.URLParameters(URL)
# a broker that is short of memory blocks whoever publishes
parameters.blocked_connection_timeout = SECONDS
try:
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        result = ask(channel, "forward", JOB)
        print("response:", result["completions"][0]["choices"][0]["message"]["content"])
        criticism = [{"variable": result["output"], "text": "Use only capital letters."}]
        gradients = ask(channel, "backward", {"graph": result["graph"], "feedback": criticism})
        for gradient in gradients["gradients"]["prompt-1"]:
            print("gradient:", gradient["text"])
except pika.exceptions.UnroutableError:
    sys.exit(f"no queue {NAMESPACE}.forward: the workers make their queues when they start")
except pika.exceptions.AMQPError as error:
    sys.exit(f"the broker of BACKTALK_AMQP_URL: {error!r}")
