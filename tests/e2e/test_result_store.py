"""Workers that die in the middle of many calls: the next ones make those that are left, and the answer is the same."""

from __future__ import annotations

import asyncio
import json
import re
import signal

import pytest
from fixtures import tapes
from fixtures.tapes import call, param, tape

from backtalk import Client
from backtalk.wire.codec import validate
from backtalk.wire.feedback import Feedback
from backtalk.wire.jobs import CompletionJob

ITEMS = 100
AT_ONCE = 5
KILLED_AT = 60


def job():
    return {
        "model": "forward",
        "messages": [{"role": "user", "content": [{"data": "Answer: ", "role": "prompt"}, "{question}"]}],
        "inputs": {"question": [f"what is {at}?" for at in range(ITEMS)]},
    }


def feedback():
    """Return feedback on a batch of answers that share one prompt: a call for each of them."""
    variables = {
        "prompt": param("Answer."),
        "question": [f"what is {at}?" for at in range(ITEMS)],
        "answer": [f"It is {at}." for at in range(ITEMS)],
    }
    graph = tape(variables, call("op", "prompt question", "answer"))
    said = {"answer": [f"Item {at} is too short." for at in range(ITEMS)]}
    return tapes.feedback(graph, said, model="backward")


def without_ids(answer):
    """Return an answer with a number, by their order, in the place of the ids that derive from its message."""
    found = {}

    def numbered(id):
        return str(found.setdefault(id[0], len(found)))

    return re.sub(r"\b[0-9a-f]{32}\b", numbered, answer.model_dump_json())


class Calls:
    """Counts what the endpoint was asked for either worker."""

    def __init__(self, model):
        self._model = model

    def __getitem__(self, role):
        return sum(call.model == role for call in self._model.calls)


@pytest.fixture
def environment(environment, redis):
    return {
        **environment,
        "BACKTALK_RESULT_STORE": redis,
        "BACKTALK_MODEL_CONCURRENCY": str(AT_ONCE),
    }


async def test_a_worker_killed_in_the_middle_of_many_calls_pays_none_twice(broker, names, model, spawn):
    """SIGKILL at 60 of 100 calls, of a backward pass and of a batch: at most those in flight are made again."""
    model.rule(delay=0.05)
    calls = Calls(model)
    requests = {"forward": validate(job(), CompletionJob), "backward": validate(feedback(), Feedback)}

    async def interrupted(role, client):
        worker = await spawn(role)
        asked = asyncio.create_task(client.call(requests[role]))
        while calls[role] < KILLED_AT:
            await asyncio.sleep(0.005)
        worker.send(signal.SIGKILL)
        await worker.wait()
        made = calls[role]
        following = await spawn(role)
        return await asked, made, following

    async with Client(broker.url, namespace=names.namespace) as client:
        ends = await asyncio.gather(*(interrupted(role, client) for role in requests))
        for role, (answer, made, following) in zip(requests, ends, strict=True):
            assert answer.status == "completed"
            assert KILLED_AT <= made < ITEMS
            assert ITEMS <= calls[role] <= ITEMS + AT_ONCE
            undisturbed = await client.call(requests[role])
            assert calls[role] >= 2 * ITEMS
            assert without_ids(answer) == without_ids(undisturbed)
            following.send(signal.SIGTERM)
            assert await following.wait() == 0
            stopped = json.loads(following.log.read_text().splitlines()[-1])
            assert stopped["calls_recalled"] >= made - AT_ONCE
            assert (stopped["waits"], stopped["store_failures"]) == (1, 0)
