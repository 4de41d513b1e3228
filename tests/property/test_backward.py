"""The chain rule with floats for gradients: it must agree with finite differences on any tape."""

import asyncio
from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtalk.wire.graph import OPS
from backward_worker.backward import backward
from backward_worker.step import Contribution

STEP = 1e-5


class Calculus:
    """The rule of a tape's operations: the slope of each position; keeps which operations it was asked about."""

    def __init__(self, tape, delays=None):
        self.tape = tape
        self.visited = Counter()
        self.delays = delays

    def __call__(self, step):
        self.visited[step.operation.id] += 1
        return [self._one(step, target) for target in step.targets]

    async def _one(self, step, target):
        for _ in range(self.delays.randint(0, 9) if self.delays else 0):
            await asyncio.sleep(0)
        reads = [read for read in step.operation.positions() if read.sample in (None, target.sample)]
        x = [step.graph.index.variables[read.variable].value(target.sample) for read in reads]
        at = reads.index(target.position)
        return sum(
            said.gradient * self.tape.slope(output, x, at) for output, said in step.received[target.sample]
        )


def draw_seeds(data, values):
    """Return feedback on some variables: a weight for the whole, or one for each item."""
    weight = st.floats(-2, 2, allow_nan=False)
    seeds = {}
    for id in data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=4, unique=True)):
        value = values[id]
        if isinstance(value, list) and data.draw(st.booleans()):
            seeds[id] = [Contribution(data.draw(weight), sample=at) for at in range(len(value))]
        else:
            seeds[id] = [Contribution(data.draw(weight))]
    return seeds


def loss(values, seeds):
    total = 0.0
    for id, said in seeds.items():
        items = values[id] if isinstance(values[id], list) else [values[id]]
        for one in said:
            total += one.gradient * (sum(items) if one.sample is None else items[one.sample])
    return total


def slope(tape, seeds, id, item):
    up, down = (loss(tape.values(id, item, by), seeds) for by in (STEP, -STEP))
    return (up - down) / (2 * STEP)


def run(tape, seeds, wanted, rule):
    return asyncio.run(backward(tape.graph(), seeds, wanted, dict.fromkeys(OPS, rule)))


def drawn(data, tapes):
    tape = data.draw(tapes())
    values = tape.values()
    seeds = draw_seeds(data, values)
    wanted = data.draw(st.lists(st.sampled_from(sorted(values)), max_size=5, unique=True))
    return tape, values, seeds, wanted


@given(data=st.data())
def test_gradients_agree_with_finite_differences(tapes, data):
    """For every wanted variable, leaf or interior, the sum of its entries is the derivative of the loss."""
    tape, values, seeds, wanted = drawn(data, tapes)
    result = run(tape, seeds, wanted, Calculus(tape))
    assert result.failures == ()
    assert result.contributions.keys() == set(wanted)
    for id in wanted:
        entries = result.contributions[id]
        if isinstance(values[id], list):
            for item in range(tape.batch):
                found = sum(one.gradient for one in entries if one.sample in (None, item))
                assert slope(tape, seeds, id, item) == pytest.approx(found, rel=1e-4, abs=1e-6)
        else:
            found = sum(one.gradient for one in entries)
            assert slope(tape, seeds, id, None) == pytest.approx(found, rel=1e-4, abs=1e-6)


@given(data=st.data())
def test_exactly_what_lies_between_feedback_and_wanted_is_visited_and_once(tapes, data):
    """No operation runs twice, none runs in vain, none is left out."""
    tape, _, seeds, wanted = drawn(data, tapes)
    rule = Calculus(tape)
    run(tape, seeds, wanted, rule)
    reads, writes = defaultdict(set), {}
    for operation in tape.graph().operations:
        reads[operation.id] = {read.variable for read in operation.positions()}
        writes[operation.id] = set(operation.outputs)
    needed, leads = set(seeds), set(wanted)
    for id, written in reversed(writes.items()):
        if written & needed:
            needed |= reads[id]
    for id, written in writes.items():
        if reads[id] & leads:
            leads |= written
    between = {id for id, written in writes.items() if written & needed and reads[id] & leads}
    assert dict(rule.visited) == dict.fromkeys(between, 1)


@given(data=st.data(), seed=st.integers(0, 2**32))
def test_what_comes_out_does_not_depend_on_the_order_of_replies(tapes, data, seed):
    """Rules that take their time give the same entries in the same order."""
    tape, _, seeds, wanted = drawn(data, tapes)
    prompt = run(tape, seeds, wanted, Calculus(tape))
    late = run(tape, seeds, wanted, Calculus(tape, delays=Random(seed)))
    assert late == prompt


@given(data=st.data())
def test_entries_are_in_tape_order_then_position_then_sample(tapes, data):
    """Feedback on the variable itself comes first, and no two entries are of one place."""
    tape, _, seeds, wanted = drawn(data, tapes)
    graph = tape.graph()
    result = run(tape, seeds, wanted, Calculus(tape))
    for id in wanted:
        places = []
        for one in result.contributions[id]:
            if one.operation is None:
                continue
            at = graph.index.operations[one.operation]
            paths = list(dict.fromkeys(read.path for read in graph.index.positions[at]))
            places.append((at, paths.index(one.input), -1 if one.sample is None else one.sample))
        assert places == sorted(set(places))
        seeded = [one for one in result.contributions[id] if one.operation is None]
        assert list(result.contributions[id][: len(seeded)]) == seeded == list(seeds.get(id, []))
