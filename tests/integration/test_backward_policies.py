"""Every policy on the real stack: calls as planned, answers that do not depend on time, budgets, and what fails."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from fixtures.tapes import call, feedback, param, step, tape

from backtalk.local.plan import planned
from backtalk.wire.usage import total

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = "It should be shorter."
COMBINATIONS = [
    {"calls": calls, "batch": batch}
    for calls in ("per_variable", "per_operation")
    for batch in ("per_sample", "digest")
]


def named(policy):
    return "-".join(str(value) for value in policy.values())


def batch(size, *, words=3):
    """Two calls one after the other for a batch: each reads a text of its own and one that both share."""
    return tape(
        {
            "style": param("Be kind to everybody."),
            "draft": param("Draft a letter."),
            "check": param("Check the letter."),
            "x": [f"Request {at}. {'more ' * words}" for at in range(size)],
            "y": [f"Letter {at}." for at in range(size)],
            "z": [f"Final {at}." for at in range(size)],
        },
        call("first", "style draft x", "y"),
        call("second", "style check y", "z"),
    )


def complaints(size):
    return [f"Item {at} is too long." for at in range(size)]


async def asked(stage, body, **properties):
    return (await stage.ask(body, role="backward", **properties)).json


async def plan_of(body):
    """What `backtalk plan` says of a message, by what it asks for."""
    (row,) = [row for row in await planned(json.dumps(body).encode()) if row.asked]
    return row.cost


def check_usage(stage, answer):
    """Hold the sums against the calls, and the calls against what the endpoint counted."""
    calls, usage = answer.get("calls", []), answer["usage"]
    assert len(calls) == stage.model.total == usage["calls"]
    assert {**total(one["usage"] for one in calls), "calls": len(calls)} == usage
    by_operation = {}
    for one in calls:
        by_operation.setdefault(one["operation"], []).append(one["usage"])
    by_operation.pop(None, None)
    assert answer.get("usage_by_operation", {}) == {
        id: {**total(used), "calls": len(used)} for id, used in by_operation.items()
    }


# ---- as planned


@pytest.mark.parametrize("summary", [False, True])
@pytest.mark.parametrize("policy", COMBINATIONS, ids=named)
async def test_the_calls_made_are_those_planned(pair, policy, summary):
    """One number, said beforehand and counted at the endpoint; and all that was used adds up."""
    body = feedback(batch(4), {"z": complaints(4)}, policy={**policy, "summary": summary})
    cost = await plan_of(body)
    answer = await asked(pair, body)
    assert answer["status"] == "completed"
    assert pair.model.total == cost.calls
    check_usage(pair, answer)


@pytest.mark.parametrize(("policy", "made"), list(zip(COMBINATIONS, (20, 5, 8, 2), strict=True)), ids=str)
async def test_what_each_policy_takes(pair, policy, made):
    """Four samples, two calls with two texts and one batch between them: 20 questions, 5, 8 or 2."""
    await asked(pair, feedback(batch(4), {"z": complaints(4)}, policy=policy))
    assert pair.model.total == made


@pytest.mark.parametrize("policy", COMBINATIONS, ids=named)
async def test_a_shared_text_has_an_entry_for_each_sample_or_one(pair, policy):
    """With digest, `sample` is null; a batch on the way keeps one for each item in any case."""
    body = feedback(batch(3), {"z": complaints(3)}, policy=policy, wrt=["style", "y"])
    gradients = (await asked(pair, body))["gradients"]
    samples = [None] if policy["batch"] == "digest" else [0, 1, 2]
    found = [(one["operation"], one["sample"], one["how"]) for one in gradients["style"]]
    assert found == [(id, sample, "model") for id in ("first", "second") for sample in samples]
    assert [(one["operation"], one["sample"]) for one in gradients["y"]] == [
        ("second", 0),
        ("second", 1),
        ("second", 2),
    ]
    for at, entry in enumerate(gradients["y"]):
        assert f"Item {at} is too long." in entry["text"]


@pytest.mark.parametrize("policy", COMBINATIONS, ids=named)
async def test_a_summary_stands_beside_the_entries_and_is_one_call_each(pair, policy):
    """All entries are there as without it; a variable with one short entry is copied, without a call."""
    body = feedback(batch(3), {"z": complaints(3)}, policy=policy)
    without = await asked(pair, body)
    plain = pair.model.total
    body["policy"] = {**policy, "summary": True}
    answer = await asked(pair, body)
    assert answer["gradients"] == without["gradients"]
    assert set(answer["summaries"]) == {"style", "draft", "check"}
    merged = [one for one in answer["calls"] if one["purpose"] == "summary"]
    assert pair.model.total == 2 * plain + len(merged)
    assert [one["inputs"] for one in merged] == (
        [["style"]] if policy["batch"] == "digest" else [["check"], ["draft"], ["style"]]
    )
    for id, summary in answer["summaries"].items():
        assert summary["entries"] == list(range(len(answer["gradients"][id])))
    assert all(f"Item {at}" in answer["summaries"]["style"]["text"] for at in range(3))


@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
async def test_a_digest_that_is_too_large_goes_in_groups_and_is_merged(pair, calls):
    """The plan knows the groups and the mergers; no prompt passes the budget, and every sample is shown once."""
    policy = {"calls": calls, "batch": "digest", "prompt_tokens": 3000}
    body = feedback(batch(12, words=300), {"y": complaints(12)}, policy=policy)
    cost = await plan_of(body)
    answer = await asked(pair, body)
    assert pair.model.total == cost.calls
    check_usage(pair, answer)
    purposes = [one["purpose"] for one in answer["calls"]]
    groups = purposes.count("ask") // (1 if calls == "per_operation" else 2)
    assert (groups > 1, purposes.count("merge")) == (True, 2)
    for id in ("style", "draft"):
        (entry,) = answer["gradients"][id]
        assert (entry["how"], entry["sample"]) == ("merged", None)
        assert all(f"Item {at} is too long." in entry["text"] for at in range(12))
    assert largest_prompt(pair) <= 3000


def largest_prompt(stage):
    """About how many tokens the largest prompt takes, as the policy counts them."""
    prompts = [one.messages for one in stage.model.calls]
    return max(sum(-(-len(said["content"].encode()) // 4) for said in prompt) for prompt in prompts)


@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
async def test_a_digest_of_many_short_samples_stays_within_the_budget(pair, calls):
    """What stands around a sample counts as well: headings, fences, who said it."""
    policy = {"calls": calls, "batch": "digest", "prompt_tokens": 4000}
    body = feedback(batch(48), {"y": complaints(48)}, policy=policy)
    answer = await asked(pair, body)
    assert all(f"Item {at} is too long." in answer["gradients"]["style"][0]["text"] for at in (0, 17))
    assert largest_prompt(pair) <= 4000


async def test_a_summary_of_many_entries_stays_within_the_budget(pair):
    """What stands around an entry counts as well."""
    policy = {"summary": True, "prompt_tokens": 4000}
    body = feedback(batch(64), {"y": complaints(64)}, wrt=["draft"], policy=policy)
    answer = await asked(pair, body)
    assert answer["summaries"]["draft"]["entries"] == list(range(64))
    assert largest_prompt(pair) <= 4000


# ---- budgets


@pytest.mark.parametrize("summary", [False, True])
@pytest.mark.parametrize("policy", COMBINATIONS, ids=named)
async def test_too_few_calls_are_refused_before_the_first(pair, policy, summary):
    """The refusal says how many it takes; with exactly so many it is done."""
    body = feedback(batch(3), {"z": complaints(3)}, policy={**policy, "summary": summary})
    needed = (await plan_of(body)).calls
    body["policy"]["max_calls"] = needed - 1
    refused = await asked(pair, body)
    assert (refused["status"], refused["error"]["code"]) == ("failed", "budget_exceeded")
    assert refused["error"]["details"]["calls"] == needed
    assert pair.model.total == 0
    body["policy"]["max_calls"] = needed
    assert (await asked(pair, body))["status"] == "completed"
    assert pair.model.total == needed


CHAIN = tape({"p": param(), "q": param()}, call("1", "p", "x"), call("2", "x", "y"), call("3", "y q", "z"))


async def test_calls_that_run_out_because_of_a_second_try_leave_what_is_done(pair):
    """An empty reply is asked for again, and that call is missing in the end."""
    pair.model.rule(match="Text of y.", times=1, reply="")
    body = feedback(CHAIN, {"z": BAD}, wrt=["p", "q", "x", "y"], policy={"max_calls": 4})
    answer = await asked(pair, body)
    assert answer["status"] == "partial"
    assert {id: len(entries) for id, entries in answer["gradients"].items()} == {
        "p": 0,
        "q": 1,
        "x": 1,
        "y": 1,
    }
    (failure,) = answer["failures"]
    assert (failure["variable"], failure["operation"]) == ("p", "1")
    assert (failure["error"]["code"], failure["error"]["details"]["path"]) == (
        "budget_exceeded",
        "policy/max_calls",
    )
    assert pair.model.total == 4
    check_usage(pair, answer)


async def test_calls_that_run_out_because_a_map_cannot_be_read_leave_what_is_done(pair):
    """Two tries of the map, then each text by itself, as far as it goes."""
    pair.model.rule(times=2, reply="I would rather talk about it.")
    body = feedback(
        tape({"p": param(), "q": param(), "r": param()}, call("1", "p q r", "x")),
        {"x": BAD},
        policy={"calls": "per_operation", "max_calls": 4},
    )
    answer = await asked(pair, body)
    assert answer["status"] == "partial"
    assert sum(len(entries) for entries in answer["gradients"].values()) == 2
    assert [failure["error"]["code"] for failure in answer["failures"]] == ["budget_exceeded"]
    assert pair.model.total == 4
    check_usage(pair, answer)


async def test_tokens_that_run_out_leave_what_is_done(pair):
    """A call that would pass the limit is not made; what was spent is what the endpoint says."""
    body = feedback(CHAIN, {"z": BAD}, wrt=["p", "q", "x", "y"])
    spent = (await asked(pair, body))["usage"]["total_tokens"]
    made = pair.model.total
    body["policy"] = {"max_tokens": spent}
    answer = await asked(pair, body)
    assert answer["status"] == "partial"
    assert {failure["error"]["details"]["path"] for failure in answer["failures"]} == {"policy/max_tokens"}
    assert answer["gradients"]["p"] == []
    assert answer["usage"]["total_tokens"] <= spent
    assert answer["usage"]["calls"] == pair.model.total - made < made


async def test_tokens_for_all_are_enough_until_something_is_asked_again(pair):
    """The same budget that is enough for a smooth run is not for one with a second try."""
    body = feedback(CHAIN, {"z": BAD}, wrt=["p", "x"])
    usual = await asked(pair, body)
    # a question is counted with 250 tokens of reply until it is answered
    body["policy"] = {"max_tokens": usual["usage"]["total_tokens"] + 250}
    assert (await asked(pair, body))["status"] == "completed"
    pair.model.reset()
    pair.model.rule(match="Text of y.", times=1, reply="word " * 400, finish_reason="length")
    answer = await asked(pair, body)
    assert answer["status"] in ("partial", "failed")
    assert answer["failures"][0]["error"]["code"] == "budget_exceeded"
    assert answer["usage"]["total_tokens"] <= body["policy"]["max_tokens"]
    assert answer["usage"]["calls"] == pair.model.total


async def test_no_calls_at_all_are_enough_for_what_costs_none(pair):
    """Nothing to criticise can be had with `max_calls` 0, also from a batch."""
    answer = await asked(pair, feedback(batch(3), {"z": ""}, policy={"max_calls": 0, "max_tokens": 0}))
    assert answer["status"] == "completed"
    assert pair.model.total == 0


# ---- what fails


async def test_one_bad_call_of_48_leaves_the_others_and_their_ancestors(pair):
    """Only its own cone is missing; the failure names variable, operation and sample."""
    pair.model.rule(match="Final 17.", status=400)
    body = feedback(batch(48), {"z": complaints(48)}, wrt=["draft"])
    answer = await asked(pair, body)
    assert answer["status"] == "partial"
    assert [one["sample"] for one in answer["gradients"]["draft"]] == [at for at in range(48) if at != 17]
    (failure,) = answer["failures"]
    assert (failure["variable"], failure["operation"], failure["sample"]) == ("y", "second", 17)
    assert failure["error"]["code"] == "upstream_rejected"
    assert pair.model.total == 48 + 47
    assert answer["usage"]["calls"] == 47 + 47


async def test_one_bad_call_of_48_per_operation_takes_its_sample_alone(pair):
    """Each target of the question that failed is a failure of its own."""
    pair.model.rule(match="Final 17.", status=400)
    answer = await asked(pair, feedback(batch(48), {"z": complaints(48)}, policy={"calls": "per_operation"}))
    assert answer["status"] == "partial"
    assert [len(answer["gradients"][id]) for id in ("style", "draft", "check")] == [94, 47, 47]
    assert [(one["variable"], one["sample"]) for one in answer["failures"]] == [
        ("style", 17),
        ("check", 17),
        ("y", 17),
    ]
    assert pair.model.total == 48 + 47


async def test_a_digest_with_a_failed_group_says_that_it_is_incomplete(pair):
    """What the other groups said is merged; the failure stands beside it."""
    pair.model.rule(match="## Sample 11\n", status=400)
    policy = {"batch": "digest", "prompt_tokens": 3000}
    body = feedback(batch(12, words=300), {"y": complaints(12)}, wrt=["draft"], policy=policy)
    answer = await asked(pair, body)
    assert answer["status"] == "partial"
    (entry,) = answer["gradients"]["draft"]
    assert (entry["how"], entry["incomplete"], entry["sample"]) == ("merged", True, None)
    assert "Item 0 is too long." in entry["text"]
    assert "Item 11 is too long." not in entry["text"]
    (failure,) = answer["failures"]
    assert (failure["variable"], failure["operation"], failure["sample"]) == ("draft", "first", None)
    assert failure["error"]["code"] == "upstream_rejected"


async def test_a_digest_whose_groups_all_failed_has_no_entry(pair):
    """A variable with only failed contributions has none, and the whole is a failure."""
    pair.model.rule(status=400)
    policy = {"batch": "digest", "prompt_tokens": 3000}
    body = feedback(batch(12, words=300), {"y": complaints(12)}, wrt=["draft"], policy=policy)
    answer = await asked(pair, body)
    assert (answer["status"], answer["gradients"]) == ("failed", {"draft": []})
    assert [one["error"]["code"] for one in answer["failures"]] == ["upstream_rejected"]


async def test_a_merger_that_failed_keeps_all_that_was_to_be_merged(pair):
    """What was paid is in the entry, word for word."""
    pair.model.rule(match="you make one feedback of theirs", status=400)
    policy = {"batch": "digest", "prompt_tokens": 3000}
    body = feedback(batch(12, words=300), {"y": complaints(12)}, wrt=["draft"], policy=policy)
    answer = await asked(pair, body)
    (entry,) = answer["gradients"]["draft"]
    assert (answer["status"], entry["how"]) == ("partial", "merged")
    assert all(f"Item {at} is too long." in entry["text"] for at in range(12))


async def test_a_summary_that_failed_leaves_the_entries(pair):
    """The failure has no operation; the summary holds the texts as they are."""
    pair.model.rule(match="you make one feedback of theirs", status=400)
    answer = await asked(pair, feedback(batch(2), {"z": complaints(2)}, policy={"summary": True}))
    assert answer["status"] == "partial"
    assert [(one["variable"], one["operation"]) for one in answer["failures"]] == [
        ("style", None),
        ("draft", None),
        ("check", None),
    ]
    assert len(answer["gradients"]["style"]) == 4
    assert answer["summaries"]["check"]["text"] == "\n".join(
        one["text"] for one in answer["gradients"]["check"]
    )


# ---- the order of the replies


async def bytes_of(stage, body, *, seed):
    """Return the answer as it was sent, with replies that come in another order for each seed."""
    stage.model.reset()
    delays = random.Random(seed)
    for _ in range(40):
        stage.model.rule(times=1, delay=delays.choice([0, 0.01, 0.02, 0.03]))
    return (await stage.ask(body, role="backward", message_id="always the same")).content


@pytest.mark.parametrize("more", [{}, {"summary": True, "context": True}], ids=["plain", "all"])
@pytest.mark.parametrize("policy", COMBINATIONS, ids=named)
async def test_an_answer_does_not_depend_on_the_order_of_the_replies(pair, policy, more):
    """The same graph and the same replies give the same bytes."""
    body = feedback(batch(4), {"z": complaints(4)}, policy={**policy, **more}, wrt=["style", "check", "y"])
    first, *others = [await bytes_of(pair, body, seed=seed) for seed in range(3)]
    assert others == [first, first]


@pytest.mark.parametrize("policy", COMBINATIONS, ids=named)
async def test_failures_do_not_depend_on_the_order_of_the_replies(pair, policy):
    """Also where some calls are refused whatever happens."""
    body = feedback(batch(5), {"z": complaints(5)}, policy={**policy, "summary": True})

    async def answered(seed):
        pair.model.reset()
        delays = random.Random(seed)
        for match in ("Final 1.", "## Sample 2", "you make one feedback of theirs"):
            pair.model.rule(match=match, times=1, status=400, delay=delays.random() / 30)
            pair.model.rule(match=match, times=1, status=400, delay=delays.random() / 30)
            pair.model.rule(match=match, status=400)
        for at in range(5):
            pair.model.rule(match=f"Request {at}.", delay=delays.random() / 30)
        return (await pair.ask(body, role="backward", message_id="always the same")).content

    first, *others = [await answered(seed) for seed in range(4)]
    assert json.loads(first)["failures"]
    assert others == [first] * 3


def parted():
    """A batch that a client did in two parts."""
    halves = [
        operation
        for at, (start, stop) in enumerate([(0, 2), (2, 4)])
        for operation in (
            step("slice", f"cut{at}", "x", f"x{at}", start=start, stop=stop),
            call(f"call{at}", f"style draft x{at}", f"y{at}"),
        )
    ]
    whole = step("concat", "whole", "y0 y1", "y", lengths=[2, 2])
    texts = [f"Letter {at}." for at in range(4)]
    return tape(
        {
            "style": param("Be kind."),
            "draft": param("Draft a letter."),
            "x": [f"Request {at}." for at in range(4)],
            **{f"x{at}": [f"Request {2 * at}.", f"Request {2 * at + 1}."] for at in (0, 1)},
            "y0": texts[:2],
            "y1": texts[2:],
            "y": texts,
        },
        *halves,
        whole,
    )


async def test_mergers_of_parted_batches_that_fail_are_told_in_one_order(pair):
    """The parts of a batch are merged for each text; which merger fails first does not matter."""
    body = feedback(parted(), {"y": complaints(4)}, policy={"batch": "digest"})

    async def answered(slow):
        pair.model.reset()
        for text in ("Be kind.", "Draft a letter."):
            match = f'kind="variable">\n{text}\n'
            pair.model.rule(match=match, times=2)
            pair.model.rule(match=match, status=400, delay=0.1 if text == slow else 0)
        return (await pair.ask(body, role="backward", message_id="always the same")).content

    first, second = await answered("Be kind."), await answered("Draft a letter.")
    assert [one["variable"] for one in json.loads(second)["failures"]] == ["style", "draft"]
    assert first == second


# ---- late feedback, from several


def both_ways(graph, one, other, **fields):
    """Two messages with an item each, and one with both; the items have ids of their own."""
    items = [{"id": f"f {id}", "variable": id, "text": text, "source": id} for id, text in (one, other)]
    return [feedback(graph, [item], **fields) for item in items], feedback(graph, items, **fields)


async def from_two_senders(stage, messages):
    """Return the answers to messages that two senders with mailboxes of their own have sent."""
    answers = []
    for body in messages:
        mailbox = await stage.mailbox()
        await stage.send(body, role="backward", reply_to=mailbox)
        answers.append((await stage.take(mailbox)).json)
    return answers


@pytest.mark.parametrize("policy", COMBINATIONS, ids=named)
async def test_late_feedback_on_separate_branches_is_the_same_in_two_messages(pair, policy):
    """Where no call lies under both outputs, the two answers together are the answer to both at once."""
    graph = tape(
        {"shared": param(), "a": param(), "b": param()},
        call("1", "shared a", "x"),
        call("2", "shared b", "y"),
        call("3", "a x", "v"),
        call("4", "y", "w"),
    )
    messages, both = both_ways(graph, ("v", "Too long."), ("w", "Too cold."), policy=policy)
    one, two = await from_two_senders(pair, messages)
    taken = pair.model.total
    pair.model.reset()
    together = await asked(pair, both)
    assert (taken, pair.model.total) == (one["usage"]["calls"] + two["usage"]["calls"], taken)
    for id, entries in together["gradients"].items():
        tape_order = sorted(one["gradients"][id] + two["gradients"][id], key=lambda e: e["operation"])
        assert entries == tape_order
    assert [len(together["gradients"][id]) for id in ("shared", "a", "b")] == [2, 2, 1]


async def test_late_feedback_on_a_shared_call_asks_it_once_or_twice(pair):
    """One message asks the call under both outputs once with both criticisms; two messages, each with its own."""
    graph = tape({"p": param()}, call("1", "p", "x"), call("2", "x", "v"), call("3", "x", "w"))
    messages, both = both_ways(graph, ("v", "Too long."), ("w", "Too cold."))
    one, two = await from_two_senders(pair, messages)
    assert pair.model.total == 4
    pair.model.reset()
    together = await asked(pair, both)
    assert pair.model.total == 3
    (entry,) = together["gradients"]["p"]
    assert entry["feedback"] == ["f v", "f w"]
    assert "Too long." in entry["text"]
    assert "Too cold." in entry["text"]
    assert [answer["gradients"]["p"][0]["feedback"] for answer in (one, two)] == [["f v"], ["f w"]]
    prompt = pair.model.calls[-1].messages[-1]["content"]
    assert prompt.count('kind="feedback"') == 2


async def test_late_feedback_on_a_shared_plain_step_says_the_same_in_one_entry_or_two(pair):
    """A step that no model takes passes on what it heard: in one message as one entry, of the same sayings."""
    graph = tape(
        {"p": param(), "q": "Fixed."},
        step("add", "1", "p q", "x"),
        step("edit", "2", "x", "v"),
        step("edit", "3", "x", "w"),
    )
    messages, both = both_ways(graph, ("v", "Too long."), ("w", "Too cold."))
    one, two = await from_two_senders(pair, messages)
    together = await asked(pair, both)
    (entry,) = together["gradients"]["p"]
    said = [answer["gradients"]["p"][0]["text"] for answer in (one, two)]
    assert entry["text"].splitlines() == said
    assert pair.model.total == 0


# ---- fairness, and the worker's own policy


async def test_a_wide_graph_does_not_starve_a_small_one(stage):
    """Two calls that come behind four hundred are made long before the last of them."""
    await stage.worker("backward", model_concurrency=8)
    stage.model.rule(delay=0.02)
    wide = batch(80)
    small = tape({"p": param()}, call("1", "p", "x"), call("2", "x", "y"))
    mailbox, other = await stage.mailbox(), await stage.mailbox()
    await stage.send(feedback(wide, {"z": complaints(80)}), role="backward", reply_to=mailbox)
    await stage.calls(8)
    await stage.send(feedback(small, {"y": BAD}), role="backward", reply_to=other)
    answer = (await stage.take(other)).json
    made = stage.model.total
    assert (answer["status"], answer["usage"]["calls"]) == ("completed", 2)
    assert made < 200
    wide_answer = (await stage.take(mailbox)).json
    assert (wide_answer["status"], wide_answer["usage"]["calls"]) == ("completed", 400)


async def test_what_a_message_leaves_open_the_worker_decides(stage):
    """Field by field: what it states counts, an explicit null too."""
    await stage.worker(
        "backward", policy={"calls": "per_operation", "batch": "digest", "max_calls": 1, "gate": 0.5}
    )
    item = {"variable": "z", "text": BAD, "score": 0.7}

    async def outcome(**fields):
        stage.model.reset()
        answer = await asked(stage, feedback(batch(3), [item], **fields))
        return answer["status"], stage.model.total

    assert await outcome() == ("completed", 0)
    assert await outcome(policy=None) == ("completed", 0)
    assert await outcome(policy={}) == ("completed", 0)
    assert await outcome(policy={"gate": None}) == ("failed", 0)
    assert await outcome(policy={"gate": None, "max_calls": None}) == ("completed", 2)
    assert await outcome(policy={"gate": 0.8, "max_calls": 5, "calls": "per_variable"}) == ("completed", 5)
    assert await outcome(policy={"gate": 0.8, "max_calls": None, "batch": "per_sample"}) == ("completed", 6)


async def test_a_client_states_a_null_as_well(stage):
    """What the client's options say reaches the worker as it was stated, and nothing else does."""
    await stage.worker("backward", policy={"max_calls": 0, "summary": True})
    client = await stage.client()
    graph = [batch(2)]
    refused = await client.feedback(graph, {"z": BAD})
    assert (refused.status, refused.error.code) == ("failed", "budget_exceeded")
    done = await client.feedback(graph, {"z": BAD}, policy={"max_calls": None})
    assert (done.status, set(done.summaries)) == ("completed", {"style", "draft", "check"})


async def test_fields_that_do_not_go_together_with_the_workers_are_refused(stage):
    """The policy in force counts: the message's and the worker's in one."""
    await stage.worker("backward", policy={"batch": "digest", "prompt_tokens": 1500})
    with_samples = await asked(stage, feedback(batch(3), {"z": BAD}, samples=[0, 2]))
    assert with_samples["error"]["details"]["path"] == "samples"
    with_context = await asked(stage, feedback(batch(3), {"z": BAD}, policy={"context": True}))
    assert with_context["error"]["details"]["path"] == "policy/context_tokens"
    assert stage.model.total == 0


async def test_two_feedbacks_at_once_keep_their_policies_apart(pair):
    """Each message is asked for under its own."""
    bodies = [feedback(batch(3), {"z": complaints(3)}, policy=policy) for policy in COMBINATIONS]
    mailboxes = [await pair.mailbox() for _ in bodies]
    await asyncio.gather(
        *(pair.send(body, role="backward", reply_to=box) for body, box in zip(bodies, mailboxes, strict=True))
    )
    made = [(await pair.take(box)).json["usage"]["calls"] for box in mailboxes]
    assert made == [(await plan_of(body)).calls for body in bodies]
    assert pair.model.total == sum(made)
