"""Feedback on one batch that several workers share: the answer is that of one message."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import pytest_asyncio
from fixtures.tapes import call, feedback, param, step, tape

from backtalk.client import Refused
from backtalk.wire.codec import validate
from backtalk.wire.graph import Graph
from backward_worker.differentiate import differentiate

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 10


def shown(answer, *left_out):
    """Return an answer as JSON, without what two answers never share."""
    return answer.model_dump(mode="json", exclude={"id", *left_out})


def batch(size=SIZE):
    """Two calls for a batch; both read one text, and each another one before or behind it."""
    second = call("second", "check y", "z", inputs={"style": "style"})
    second["messages"][0]["content"] = ["check", "y", "check"]
    return tape(
        {
            "style": param("Be kind."),
            "draft": param("Draft a letter."),
            "check": param("Check the letter of {style}."),
            "x": [f"Request {at}." for at in range(size)],
            "y": [f"Letter {at}." for at in range(size)],
            "z": [f"Final {at}." for at in range(size)],
        },
        call("first", "style draft x", "y"),
        second,
    )


def graph_of(tape):
    return validate(tape, Graph)


def complaints(size=SIZE):
    """Every third item is all right, and another one is praised."""
    return ["" if at % 3 == 2 else "Perfect." if at == 4 else f"Item {at} is too long." for at in range(size)]


@pytest_asyncio.fixture(loop_scope="module")
async def client(pair):
    return await pair.client()


# ---- the same as one message


@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
@pytest.mark.parametrize("split", [2, 4, SIZE, 99])
async def test_a_split_answer_is_the_whole_one(pair, client, calls, split):
    """Entries, their order and the sums of what was used; the calls are the same ones."""
    send = partial(
        client.feedback,
        graph_of(batch()),
        {"z": complaints()},
        wrt=["style", "draft", "check", "y"],
        policy={"calls": calls},
        backtalk={"metadata": {"round": 1}},
    )
    whole = await send()
    made = pair.model.total
    parts = await send(split=split)
    assert shown(parts, "calls") == shown(whole, "calls")
    assert pair.model.total == 2 * made
    assert sorted(parts.calls, key=repr) == sorted(whole.calls, key=repr)


@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
async def test_the_calls_of_a_split_answer_are_in_the_order_of_one(client, calls):
    """In tape order, then by what they were about, as of one message."""
    send = partial(
        client.feedback, graph_of(batch()), {"z": complaints()}, wrt=["style"], policy={"calls": calls}
    )
    whole, parts = await send(), await send(split=4)
    assert [(one.operation, one.inputs, one.sample) for one in parts.calls] == [
        (one.operation, one.inputs, one.sample) for one in whole.calls
    ]


async def test_the_failures_of_a_split_answer_are_those_of_one(pair, client):
    """In their order: a variable that is read at two positions fails at both of them."""
    for at in (1, 3, 9):
        pair.model.rule(match=f"Final {at}.", status=400)
    send = partial(client.feedback, graph_of(batch()), {"z": complaints()}, wrt=["check", "style"])
    whole, parts = await send(), await send(split=3)
    assert whole.status == parts.status == "partial"
    assert parts.gradients == whole.gradients
    assert sorted(parts.failures, key=repr) == sorted(whole.failures, key=repr)
    assert parts.failures == whole.failures


async def test_one_text_for_all_items_is_split_as_well(pair, client):
    """A scalar text applies to every item of the batch."""
    send = partial(client.feedback, graph_of(batch()), {"z": "It is too long."})
    whole, parts = await send(), await send(split=4)
    for id, entries in whole.gradients.items():
        assert [(one.operation, one.input, one.sample) for one in parts.gradients[id]] == [
            (one.operation, one.input, one.sample) for one in entries
        ]


async def test_scores_are_split_with_the_items(pair, client):
    """The gate looks at the same score of the same item."""
    item = {"variable": "z", "text": "Too long.", "score": [at / SIZE for at in range(SIZE)]}
    answer = await client.feedback(
        graph_of(batch()), [item], split=3, wrt=["check"], policy={"gate": 0.55, "calls": "per_operation"}
    )
    found = [one.how for one in answer.gradients["check"] if one.input == "messages/0/content/0"]
    assert found == ["model"] * 6 + ["empty"] * 4
    assert pair.model.total == 6


async def test_an_evaluation_is_split_by_what_it_measured(pair, client):
    """Its one score stands for all samples."""
    score = step(
        "evaluate",
        "eval",
        "z",
        "score why",
        purpose="length",
        scores=[0] * SIZE,
        explanations=[f"Item {at} is long." for at in range(SIZE)],
        succeeded=[at < 5 for at in range(SIZE)],
        reduction="mean",
    )
    whole_graph = batch()
    made = tape(
        {"score": 0.0, **{one["id"]: one for one in whole_graph["variables"]}},
        *whole_graph["operations"],
        score,
    )
    send = partial(client.feedback, graph_of(made), {"score": None}, wrt=["check"])
    whole, parts = await send(), await send(split=4)
    assert parts.gradients == whole.gradients
    assert [one.how for one in parts.gradients["check"]] == (["empty"] * 5 + ["model"] * 5) * 2


async def test_several_items_on_one_batch_are_split_together(client):
    """Feedback of two senders on outputs of one length."""
    items = [
        {"id": "a", "variable": "z", "text": complaints(), "source": "a"},
        {"id": "b", "variable": "y", "text": [f"Letter {at} is cold." for at in range(SIZE)], "source": "b"},
    ]
    send = partial(client.feedback, graph_of(batch()), items)
    whole, parts = await send(), await send(split=4)
    assert parts.gradients == whole.gradients


async def test_a_batch_that_was_done_in_parts_is_split_like_any_other(pair, client):
    """Its bounds need not be those of the messages; an item that failed in the forward pass is nobody's."""
    texts = ["a", "b", None, "d", "e"]
    graph = tape(
        {
            "p": param(),
            "x": ["1", "2", "3", "4", "5"],
            "x0": ["1", "2"],
            "x1": ["3", "4", "5"],
            "y0": texts[:2],
            "y1": texts[2:],
            "y": texts,
        },
        step("slice", "cut0", "x", "x0", start=0, stop=2),
        call("call0", "p x0", "y0"),
        step("slice", "cut1", "x", "x1", start=2, stop=5),
        call("call1", "p x1", "y1"),
        step("concat", "whole", "y0 y1", "y", lengths=[2, 3]),
    )
    send = partial(client.feedback, graph_of(graph), {"y": [f"Item {at} is bad." for at in range(5)]})
    whole = await send()
    assert pair.model.total == 4
    for split in (2, 3):
        parts = await send(split=split)
        assert parts.gradients == whole.gradients
        assert parts.usage == whole.usage


# ---- who does it


async def test_the_parts_are_done_by_several_workers(stage):
    """Each takes what is free: no worker does everything."""
    done = Counter()

    def counting(name):
        async def handle(request, **options):
            done[name] += 1
            return await differentiate(request, **options)

        return handle

    for name in "abc":
        await stage.worker("backward", handle=counting(name), concurrency=1)
    stage.model.rule(delay=0.05)
    client = await stage.client()
    answer = await client.feedback(graph_of(batch()), {"z": complaints()}, split=4)
    assert answer.status == "completed"
    assert sum(done.values()) == 4
    assert len(done) > 1


async def test_the_same_id_names_the_same_parts(stage):
    """A split request that is sent again is the same work, part by part."""
    seen = []

    async def handle(request, **options):
        seen.append((request.id, request.body.samples))
        return await differentiate(request, **options)

    await stage.worker("backward", handle=handle)
    client = await stage.client()
    answers = [
        await client.feedback(graph_of(batch()), {"z": complaints()}, split=2, id="mine") for _ in range(2)
    ]
    assert [answer.id for answer in answers] == ["mine", "mine"]
    assert sorted(seen) == [("mine/0", (0, 5))] * 2 + [("mine/1", (5, 10))] * 2


async def test_a_worker_that_digests_by_default_takes_the_parts_by_sample(stage):
    """What a split cannot have is stated, so that the worker's own policy does not bring it in."""
    await stage.worker("backward", policy={"batch": "digest", "summary": True, "calls": "per_operation"})
    client = await stage.client()
    answer = await client.feedback(graph_of(batch()), {"z": complaints()}, split=2, wrt=["draft"])
    assert (answer.status, len(answer.gradients["draft"]), answer.summaries) == ("completed", SIZE, {})


# ---- what fails, and what is refused


async def test_a_part_that_failed_as_a_whole_makes_the_answer_partial(pair, client):
    """What the others found is there, and `error` says why the rest is not."""
    texts = ["Item 0 is too long.", "", "", "", "", *complaints()[5:]]
    answer = await client.feedback(
        graph_of(batch()), {"z": texts}, split=2, wrt=["draft"], policy={"max_calls": 4}
    )
    assert answer.status == "partial"
    assert (answer.error.code, answer.error.details["path"]) == ("budget_exceeded", "policy/max_calls")
    assert [(one.sample, one.how) for one in answer.gradients["draft"]] == [
        (0, "model"),
        (1, "empty"),
        (2, "empty"),
        (3, "empty"),
        (4, "empty"),
    ]
    assert pair.model.total == answer.usage["calls"] == 2


async def test_parts_that_all_failed_are_a_failure(pair, client):
    """With the first one's error, as of one message."""
    pair.model.rule(status=400)
    said = {"z": [f"Item {at} is too long." for at in range(SIZE)]}
    send = partial(client.feedback, graph_of(batch()), said, wrt=["draft"])
    whole, parts = await send(), await send(split=3)
    assert parts.status == whole.status == "failed"
    assert parts.error == whole.error
    assert parts.failures == whole.failures


@pytest.mark.parametrize(
    ("said", "options", "told"),
    [
        ({"z": "x"}, {"policy": {"batch": "digest"}}, "policy/batch"),
        ({"z": "x"}, {"policy": {"summary": True}}, "policy/summary"),
        ({"z": "x"}, {"samples": [0, 2]}, "samples"),
        ({"style": "x"}, {}, "'style' has none"),
        ({"z": "x", "short": "x"}, {}, "'z' has 10, 'short' has 2"),
        ({"nobody": "x"}, {}, "'nobody' is not a variable"),
    ],
)
async def test_what_cannot_be_split_is_refused_before_anything_is_sent(pair, client, said, options, told):
    """The message names the field and the remedy."""
    graph = batch()
    graph["variables"].append({"id": "short", "data": ["a", "b"], "role": "short"})
    with pytest.raises(Refused, match=told):
        await client.feedback(graph_of(graph), said, split=4, **options)
    assert pair.model.total == 0


@pytest.mark.parametrize("split", [0, -1])
async def test_a_split_into_nothing_is_refused(client, split):
    """There is at least one message."""
    with pytest.raises(ValueError, match="at least 1"):
        await client.feedback(graph_of(batch()), {"z": "x"}, split=split)


# ---- samples on the wire


async def test_messages_with_samples_share_a_batch(pair):
    """Together they say what one message says, for each its own samples."""
    said = feedback(batch(), {"z": complaints()})
    ranges = [[0, 3], [3, 4], [4, SIZE]]
    answers = [(await pair.ask({**said, "samples": samples}, role="backward")).json for samples in ranges]
    made = pair.model.total
    whole = (await pair.ask(said, role="backward")).json
    assert pair.model.total == 2 * made
    for id, entries in whole["gradients"].items():
        found = [entry for answer in answers for entry in answer["gradients"][id]]
        assert sorted(found, key=repr) == sorted(entries, key=repr)
    assert {one["sample"] for one in answers[1]["gradients"]["draft"]} == {3}


@pytest.mark.parametrize(
    ("said", "fields", "told"),
    [
        ({"z": "x"}, {"samples": [0, SIZE + 1]}, "ends at 11, but variable 'z' has 10 items"),
        ({"style": "x"}, {"samples": [0, 1]}, "is a single value"),
        ({"z": "x"}, {"samples": [3, 3]}, "there is nothing in [3, 3]"),
        ({"z": "x"}, {"samples": [-1, 3]}, "samples/0"),
        ({"z": "x"}, {"samples": [1]}, "samples"),
        ({"z": "x"}, {"samples": [0, 2], "policy": {"batch": "digest"}}, "samples: leaves samples out"),
    ],
)
async def test_samples_that_make_no_sense_are_refused(pair, said, fields, told):
    """Nothing is asked."""
    answer = (await pair.ask(feedback(batch(), said, **fields), role="backward")).json
    assert (answer["status"], answer["error"]["code"]) == ("failed", "invalid_message")
    assert told in answer["error"]["message"]
    assert pair.model.total == 0


async def test_what_was_written_once_for_a_batch_is_asked_about_by_each_part(pair, client):
    """A single text that all samples read was written by one call: a message asks it once, of all that it heard."""
    graph = tape(
        {
            "p": param(),
            "x": [f"Request {at}." for at in range(4)],
            "y": [f"Letter {at}." for at in range(4)],
        },
        call("plan", "p", "style"),
        call("write", "style x", "y"),
    )
    said = {"y": [f"Item {at} is too long." for at in range(4)]}
    send = partial(client.feedback, graph_of(graph), said, wrt=["p"])
    whole = await send()
    made = pair.model.total
    parts = await send(split=4)
    assert (len(whole.gradients["p"]), made) == (1, 5)
    assert (len(parts.gradients["p"]), pair.model.total - made) == (4, 8)
    assert {(one.operation, one.sample) for one in parts.gradients["p"]} == {("plan", None)}


async def test_one_text_on_a_wanted_batch_is_an_entry_for_each_item_when_it_is_split(client):
    """Feedback on a wanted variable is an entry of its own: one for all of it, or for each item that a part has."""
    send = partial(client.feedback, graph_of(batch()), {"z": "It is too long."}, wrt=["z"])
    whole, parts = await send(), await send(split=4)
    assert [one.sample for one in whole.gradients["z"]] == [None]
    assert [one.sample for one in parts.gradients["z"]] == list(range(SIZE))
    assert {one.text for one in parts.gradients["z"]} == {"It is too long."}
