"""What a message may spend, and what becomes of it where that is not enough."""

import asyncio

import pytest

from backtalk.runtime.model import Completion
from backtalk.wire.errors import Code, Refused, Unavailable
from backward_worker.budget import Budget

DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
BATCH = ["0", "1", "2", "3"]
EVERY = [(calls, batch) for calls in ("per_variable", "per_operation") for batch in ("per_sample", "digest")]


def wanted(data):
    return {"data": data, "requires_grad": True}


@pytest.fixture
def batched(graph_of):
    """Return two calls one after the other, for four samples."""
    return graph_of(
        {"sys": wanted("s"), "q": wanted(BATCH), "mid": BATCH, "out": BATCH},
        ("one", "sys q", "mid"),
        ("two", "sys mid", "out"),
    )


# ---- the ledger


async def test_without_limits_everything_may_be_spent():
    """Null is no limit, and nothing is no null."""
    assert await Budget().take(10**9) is None
    assert await Budget(max_calls=0).take(0) is not None
    assert await Budget(max_tokens=0).take(1) is not None
    assert await Budget(max_tokens=0).take(0) is None


async def test_the_last_call_that_is_allowed_is_made():
    """And none behind it; the error names the field and the count."""
    budget = Budget(max_calls=2)
    assert [await budget.take(1), await budget.take(1)] == [None, None]
    error = await budget.take(1)
    assert (error.code, error.details) == (Code.BUDGET_EXCEEDED, {"path": "policy/max_calls", "calls": 2})
    assert "policy/max_calls" in error.message


async def test_a_call_waits_for_what_is_put_aside():
    """What is on its way counts as it was estimated, then as it was: it may leave room, or not."""
    budget = Budget(max_tokens=100)
    assert await budget.take(60) is None
    fits, never = asyncio.create_task(budget.take(80)), asyncio.create_task(budget.take(101))
    await asyncio.sleep(0)
    assert not fits.done()
    budget.settle(60, 20)
    assert await fits is None
    budget.settle(80, 80)
    assert (await never).details["path"] == "policy/max_tokens"
    assert (budget.calls, budget.spent, budget.aside) == (2, 100, 0)


@pytest.mark.parametrize("used", [None, "many", 1.5])
async def test_where_the_endpoint_does_not_say_the_estimate_counts(used):
    """Nothing is free because nobody counted it."""
    budget = Budget(max_tokens=100)
    await budget.take(60)
    budget.settle(60, used)
    assert (budget.spent, budget.aside) == (60, 0)


# ---- before anything is spent


@pytest.mark.parametrize(("calls", "batch"), EVERY)
async def test_what_takes_more_calls_than_allowed_is_refused_with_their_count(
    scripted, go_back, batched, always, calls, batch
):
    """One call less than it takes is too few, and exactly as many are enough."""
    policy = {"calls": calls, "batch": batch}
    free = await go_back(scripted(always("x")), batched, ("out", "Bad."), policy=policy)
    count = free.usage["calls"]
    model = scripted(always("x"))
    with pytest.raises(Refused) as caught:
        await go_back(model, batched, ("out", "Bad."), policy={**policy, "max_calls": count - 1})
    error = caught.value.error
    assert (error.code, error.retryable) == (Code.BUDGET_EXCEEDED, False)
    assert error.details == {"path": "policy/max_calls", "calls": count}
    assert f"{count} calls" in error.message
    assert f"{count - 1} are allowed" in error.message
    assert model.bodies == []
    enough = await go_back(model, batched, ("out", "Bad."), policy={**policy, "max_calls": count})
    assert enough == free


async def test_summaries_are_counted_as_well(scripted, go_back, batched):
    """They are calls like any other."""
    policy = {"summary": True, "summary_characters": 2000}
    free = await go_back(scripted("x"), batched, ("out", "Bad."), policy=policy)
    with pytest.raises(Refused) as caught:
        await go_back(scripted("x"), batched, ("out", "Bad."), policy={**policy, "max_calls": 1})
    assert caught.value.error.details["calls"] == free.usage["calls"]


async def test_a_pass_that_asks_nothing_needs_no_calls(scripted, go_back, batched):
    """What was not criticised costs nothing."""
    model = scripted("never asked")
    answer = await go_back(model, batched, ("out", ""), policy={"max_calls": 0, "max_tokens": 0})
    assert (answer.status, answer.usage, model.bodies) == ("completed", {"calls": 0}, [])


async def test_samples_and_gates_make_a_pass_smaller(scripted, go_back, batched):
    """They are counted as they will be asked."""
    answer = await go_back(scripted("x"), batched, ("out", "Bad."), samples=[0, 1], policy={"max_calls": 4})
    assert answer.usage["calls"] == 4
    said = {"variable": "out", "text": "Bad.", "score": [0, 1, 1, 1]}
    answer = await go_back(scripted("x"), batched, said, policy={"max_calls": 4, "gate": 1})
    assert (answer.status, answer.usage["calls"]) == ("completed", 4)


# ---- on the way


async def test_questions_that_are_asked_again_may_use_up_the_calls(scripted, go_back, graph_of):
    """What is done is kept: the answer is partial, and says which could not be asked."""
    graph = graph_of(
        {"a": wanted("A"), "b": wanted("B"), "c": wanted("C"), "out": "o"}, ("op", "a b c", "out")
    )
    model = scripted("", "x")
    answer = await go_back(model, graph, ("out", "Bad."), policy={"max_calls": 3})
    assert len(model.bodies) == answer.usage["calls"] == 3
    assert answer.status == "partial"
    assert [one.error.code for one in answer.failures] == [Code.BUDGET_EXCEEDED]
    assert answer.failures[0].error.details["path"] == "policy/max_calls"
    assert sum(len(entries) for entries in answer.gradients.values()) == 2


async def test_what_lies_behind_a_spent_budget_is_incomplete_or_missing(
    scripted, go_back, graph_of, asked_for
):
    """And an unreadable reply about several costs its tries and those of each alone."""
    graph = graph_of({"a": wanted("A"), "b": wanted("B"), "out": "o"}, ("op", "a b", "out"))
    model = scripted(lambda body: "no JSON" if asked_for(body) > 1 else "alone")
    policy = {"calls": "per_operation", "max_calls": 3}
    answer = await go_back(model, graph, ("out", "Bad."), policy=policy)
    assert (answer.status, answer.usage["calls"]) == ("partial", 3)
    assert [one.text for one in answer.gradients["a"]] == ["alone"]
    assert [(one.variable, one.error.code) for one in answer.failures] == [("b", Code.BUDGET_EXCEEDED)]


async def test_tokens_end_the_spending_and_what_is_done_is_kept(scripted, go_back, graph_of):
    """The count is what the endpoint says, and no call is begun that would pass it."""

    class Thirsty(scripted):
        async def complete(self, endpoint, body, listener=None, *, place):
            whole = await super().complete(endpoint, body, listener, place=place)
            return Completion({**whole.body, "usage": {"total_tokens": 400}})

    chain = {f"v{at}": wanted("V") for at in range(8)}
    graph = graph_of(chain, *((f"op{at}", f"v{at}", f"v{at + 1}") for at in range(7)))
    model = Thirsty("x")
    ids = [f"v{at}" for at in range(7)]
    answer = await go_back(model, graph, ("v7", "Bad."), wrt=ids, policy={"max_tokens": 2500})
    assert answer.status == "partial"
    assert 0 < len(model.bodies) < 7
    assert answer.usage["total_tokens"] == 400 * len(model.bodies) <= 2500
    (failure,) = answer.failures
    assert (failure.error.code, failure.error.details["path"]) == (
        Code.BUDGET_EXCEEDED,
        "policy/max_tokens",
    )
    done = [id for id in reversed(ids) if answer.gradients[id]]
    assert done == list(reversed(ids))[: len(model.bodies)]
    assert failure.variable == ids[-len(model.bodies) - 1]


async def test_tokens_that_are_not_enough_for_one_call_are_a_failure(scripted, go_back, batched):
    """Nothing was done, and nothing spent."""
    model = scripted("x")
    answer = await go_back(model, batched, ("out", "Bad."), policy={"max_tokens": 100})
    assert (answer.status, answer.error.code) == ("failed", Code.BUDGET_EXCEEDED)
    assert (model.bodies, answer.usage) == ([], {"calls": 0})


async def test_a_call_that_failed_gives_its_tokens_back(scripted, go_back, graph_of):
    """Nobody was paid for it."""
    graph = graph_of(
        {"a": wanted("A"), "b": "B", "c": "C", "out": "o"}, ("one", "a", "b"), ("two", "b c", "out")
    )
    model = scripted(DOWN, "x")
    answer = await go_back(model, graph, ("out", "Bad."), wrt=["b", "c"], policy={"max_tokens": 3000})
    assert len(model.bodies) == 2
    assert answer.usage["calls"] == 1


@pytest.mark.parametrize(("calls", "batch"), EVERY)
async def test_usage_adds_up(scripted, go_back, batched, always, calls, batch):
    """The total is that of all calls, and of all operations and what belongs to none."""
    model = scripted(always("x"))
    policy = {"calls": calls, "batch": batch, "summary": True, "prompt_tokens": 1000}
    answer = await go_back(model, batched, ("out", "Bad."), policy=policy)
    assert answer.usage["calls"] == len(answer.calls) == len(model.bodies)
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        total = sum(call.usage[key] for call in answer.calls)
        operations = sum(used[key] for used in answer.usage_by_operation.values())
        summaries = sum(call.usage[key] for call in answer.calls if call.operation is None)
        assert answer.usage[key] == total == operations + summaries
    counted = {id: used["calls"] for id, used in answer.usage_by_operation.items()}
    assert counted == {
        id: sum(call.operation == id for call in answer.calls) for id in ("one", "two") if id in counted
    }
