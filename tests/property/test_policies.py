"""Backward passes over any tape under any policy: what they cost, and that nothing depends on who answers first."""

import asyncio
import json
import re
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from backtalk.wire.codec import decode, encode
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.kinds import Request
from backtalk.wire.policy import Policy
from backward_worker.differentiate import differentiate
from backward_worker.rehearse import cost_of
from backward_worker.work import Work

KEYS = re.compile(r"^Reply with one JSON object .* Its keys are (.*), one for each text", re.MULTILINE)
USUAL = "word " * 200
MOST = 80


def replied(text, body, lacking=()):
    """Return a reply in the form that was asked for; a JSON object lacks some of its keys."""
    found = KEYS.search(body["messages"][-1]["content"])
    if not found:
        return text
    keys = [key for key in json.loads(f"[{found[1]}]") if int(key) % 7 not in lacking]
    return json.dumps(dict.fromkeys(keys, text))


@st.composite
def policies(draw):
    stated = {
        "calls": draw(st.sampled_from(["per_variable", "per_operation"])),
        "batch": draw(st.sampled_from(["per_sample", "digest"])),
        "summary": draw(st.booleans()),
        "context": draw(st.booleans()),
        "gate": draw(st.sampled_from([None, 0.5])),
    }
    if draw(st.booleans()):
        stated |= {"prompt_tokens": 2000}
    return stated


def drawn(data, tapes):
    """Return the body of a feedback message on a random tape."""
    graph = data.draw(tapes(most=5)).graph()
    ids = [variable.id for variable in graph.variables]
    items = []
    for id in data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3)):
        value = graph.index.variables[id].data
        word = st.sampled_from(["", "Bad.", "Wrong."])
        aligned = isinstance(value, tuple) and data.draw(st.booleans())
        text = [data.draw(word) for _ in value] if aligned else data.draw(word)
        item = {"variable": id, "text": text}
        if data.draw(st.booleans()):
            item["score"] = data.draw(st.sampled_from([0, 0.5, 1]))
        items.append(item)
    wrt = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=4, unique=True))
    policy = data.draw(policies())
    if policy["context"] and policy.get("prompt_tokens"):
        policy["context_tokens"] = 500
    body = {"graph": graph.model_dump(mode="json"), "feedback": items, "wrt": wrt, "policy": policy}
    return Request("feedback-1", "key-1", Feedback.model_validate(body))


def answered(request, model):
    async def run():
        before = asyncio.all_tasks()
        answer = await differentiate(request, model=model, emit=None, backward_model="critic")
        assert asyncio.all_tasks() == before
        return answer

    return asyncio.run(run())


@settings(max_examples=MOST)
@given(data=st.data())
def test_a_pass_takes_the_calls_that_were_counted(scripted, tapes, data):
    """Where the model always criticises; each is told in the answer, and the sums add up."""
    request = drawn(data, tapes)
    model = scripted(lambda body: replied(USUAL, body))
    cost = asyncio.run(cost_of(Work.of(request.body, Policy()), "critic"))
    answer = answered(request, model)
    assert answer.failures == ()
    assert cost.calls == len(model.bodies) == len(answer.calls) == answer.usage["calls"]
    assert len(set(model.places)) == len(model.places)
    summaries = sum(call.operation is None for call in answer.calls)
    assert answer.usage["calls"] == summaries + sum(
        used["calls"] for used in answer.usage_by_operation.values()
    )
    assert decode(encode(answer), Gradients) == answer


@settings(max_examples=MOST)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_the_answer_does_not_depend_on_the_order_of_replies(scripted, tapes, data, seed):
    """To the byte, with replies that lack something and calls that fail."""
    request = drawn(data, tapes)

    def reply(body):
        prompt = body["messages"][-1]["content"]
        kind = Random(prompt).random()
        if kind < 0.1:
            return ""
        return "NO FEEDBACK" if kind < 0.2 else replied(f"Say {kind:.3f}.", body, lacking=(2, 5))

    class Late(scripted):
        chance = Random(seed)

        async def complete(self, endpoint, body, listener=None, *, place):
            for _ in range(self.chance.randint(0, 30)):
                await asyncio.sleep(0)
            return await super().complete(endpoint, body, listener, place=place)

    prompt, late = answered(request, scripted(reply)), answered(request, Late(reply))
    assert encode(prompt) == encode(late)


@settings(max_examples=MOST)
@given(data=st.data(), batch=st.integers(1, 7), cut=st.integers(1, 6))
def test_passes_over_parts_of_a_batch_give_what_one_pass_gives(scripted, graph_of, data, batch, cut):
    """Whatever is said of whom, and wherever the batch is cut in two."""
    items = [str(at) for at in range(batch)]
    graph = graph_of(
        {
            "sys": {"data": "s", "requires_grad": True},
            "q": {"data": items, "requires_grad": True},
            "mid": items,
            "out": items,
        },
        ("one", "sys q", "mid"),
        ("two", "sys mid", "out"),
    )
    texts = data.draw(st.lists(st.sampled_from(["", "Bad."]), min_size=batch, max_size=batch))

    def passed(samples):
        body = {"graph": graph.model_dump(mode="json"), "feedback": [{"variable": "out", "text": texts}]}
        if samples is not None:
            body["samples"] = samples
        return answered(Request("f", "k", Feedback.model_validate(body)), scripted("x"))

    whole = passed(None)
    parts = [[0, batch]] if cut >= batch else [[0, cut], [cut, batch]]
    found = [passed(samples) for samples in parts]
    for id, entries in whole.gradients.items():
        assert sorted(str(one) for part in found for one in part.gradients[id]) == sorted(map(str, entries))
    assert sum(part.usage["calls"] for part in found) == whole.usage["calls"]
