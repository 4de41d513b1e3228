"""What a pass would take, told before it is made: against what it then takes."""

import asyncio

import pytest

from backtalk.wire.errors import Code, Refused
from backtalk.wire.policy import Policy
from backward_worker.ask import ModelAsker
from backward_worker.rehearse import Cost, cost_of
from backward_worker.work import Work

USUAL = "word " * 200
EVERY = [(calls, batch) for calls in ("per_variable", "per_operation") for batch in ("per_sample", "digest")]


def wanted(data):
    return {"data": data, "requires_grad": True}


@pytest.fixture
def recorded(scripted, always):
    """Return what runs a pass in rounds: all calls that wait are answered at once, then what they set off is waited for."""

    class Rounds(scripted):
        def __init__(self, reply):
            super().__init__(always(reply))
            self.waiting = []
            self.rounds = []

        async def complete(self, endpoint, body, listener=None, *, place):
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn
            return await super().complete(endpoint, body, listener, place=place)

        async def answer_in_rounds(self, task):
            while not task.done():
                before, still = len(self.waiting), 0
                while still < 40:
                    await asyncio.sleep(0)
                    still = still + 1 if len(self.waiting) == before else 0
                    before = len(self.waiting)
                if self.waiting:
                    self.rounds.append(before)
                turns, self.waiting = self.waiting, []
                for turn in turns:
                    turn.set_result(None)

    async def run(work, reply=USUAL, named=None):
        model = Rounds(reply)
        task = asyncio.ensure_future(work.run(ModelAsker(model, None, named, {})))
        async with asyncio.timeout(20):
            await model.answer_in_rounds(task)
        assert not task.result().failures
        return model

    return run


@pytest.fixture
def work(feedback_on):
    """Return the maker of a pass from a graph, feedback and a policy."""

    def made(graph, *items, **fields):
        return Work.of(feedback_on(graph, *items, **fields).body, Policy())

    return made


@pytest.fixture
def wide(graph_of):
    """Return two calls for a batch that read each other, and a third that reads both."""
    many = [f"{at} " + "word " * 100 for at in range(10)]
    return graph_of(
        {
            "sys": wanted("s"),
            "other": wanted("t"),
            "q": wanted(many),
            "a": [f"a{at}" for at in range(10)],
            "b": [f"b{at}" for at in range(10)],
            "out": [f"c{at}" for at in range(10)],
        },
        ("one", "sys q", "a"),
        ("two", "sys other a", "b"),
        ("three", "a b", "out"),
    )


def counted(model):
    return len(model.bodies), len(model.rounds), max(model.rounds, default=0)


@pytest.mark.parametrize(("calls", "batch"), EVERY)
@pytest.mark.parametrize("more", [{}, {"summary": True}, {"prompt_tokens": 1000}, {"context": True}], ids=str)
async def test_calls_depth_and_width_are_those_of_the_run(recorded, work, wide, calls, batch, more):
    """Where the model always criticises, in its usual length."""
    one = work(wide, ("out", "Bad."), policy={"calls": calls, "batch": batch, **more})
    cost = await cost_of(one, None)
    assert (cost.calls, cost.depth, cost.width) == counted(await recorded(one))


async def test_a_merger_comes_after_the_deepest_of_what_it_merges(recorded, work, graph_of):
    """Also where the first group of a batch was heard of sooner than the last."""
    graph = graph_of(
        {"s": wanted("S"), "q": ["word " * 300] * 2, "a": ["a"] * 2, "b": ["b"] * 2, "c": ["c"] * 2},
        ("one", "s q", "a"),
        ("two", "a", "b"),
        ("three", "b", "c"),
    )
    policy = {"batch": "digest", "prompt_tokens": 1000}
    one = work(graph, ("a", ["x", ""]), ("c", ["", "y"]), wrt=["s"], policy=policy)
    cost, run = await cost_of(one, None), await recorded(one)
    # two calls to hear of the second sample, the question about it, and the merger of both
    assert (cost.calls, cost.depth) == (len(run.bodies), len(run.rounds)) == (5, 4)


@pytest.mark.parametrize(("calls", "batch"), EVERY)
async def test_parts_of_a_batch_are_counted_with_their_merger(recorded, work, halves, calls, batch):
    """One question more, after the last part."""
    one = work(halves((2, 3)), ("all", "Bad."), policy={"calls": calls, "batch": batch})
    cost = await cost_of(one, None)
    assert (cost.calls, cost.depth, cost.width) == counted(await recorded(one))


async def test_nothing_to_criticise_is_nothing_to_pay(work, wide):
    """Not even to be weighed."""
    assert await cost_of(work(wide, ("out", "")), None, weigh=True) == Cost(0, 0, 0, 0)


async def test_tokens_are_weighed_only_where_somebody_wants_to_know(work, wide):
    """Prompts are composed for that, and it takes its time."""
    one = work(wide, ("out", "Bad."))
    light, heavy = await cost_of(one, None), await cost_of(one, None, weigh=True)
    assert light.tokens == 0
    assert heavy.tokens > 250 * heavy.calls
    assert (light.calls, light.depth, light.width) == (heavy.calls, heavy.depth, heavy.width)


async def test_a_way_out_of_the_graph_is_refused_as_by_the_pass_itself(work, graph_of):
    """Before anything is counted."""
    graph = graph_of(
        {"e": {"data": "x", "producer": "gone", "requires_grad": True}, "sys": wanted("s"), "out": "y"},
        ("op", "sys e", "out"),
    )
    with pytest.raises(Refused) as caught:
        await cost_of(work(graph, ("out", "Bad.")), None)
    assert caught.value.error.code == Code.INCOMPLETE_GRAPH


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
async def test_short_replies_take_no_more_than_was_told(recorded, work, wide, batch):
    """A summary of a single voice that is short needs no question."""
    policy = {"batch": batch, "summary": True, "summary_characters": 100, "prompt_tokens": 1500}
    one = work(wide, ("out", "Bad."), policy=policy)
    run = await recorded(one, "x")
    assert len(run.bodies) <= (await cost_of(one, None)).calls


async def test_counting_ends_with_the_time_of_the_message(scripted, go_back, wide):
    """A count that nobody waits for any more is given up like a call, and nothing is asked."""

    class Late(scripted):
        looked = 0

        def over(self, waited):
            self.looked += 1
            return Refused(Code.DEADLINE_EXCEEDED, f"{waited} in time") if self.looked > 3 else None

    model = Late("x")
    with pytest.raises(Refused, match="could not be counted in time"):
        await go_back(model, wide, ("out", "Bad."), policy={"max_calls": 10**6})
    assert (model.bodies, model.looked) == ([], 4)
