"""The chain rule by cases: who is asked, with what, in which order, and what is said when something fails."""

import asyncio

import pytest
from fixtures.rules import each

from backtalk.wire.errors import Code, Error, Refused
from backward_worker.backward import Failed, backward
from backward_worker.step import Contribution

FAILURE = Error(code=Code.UPSTREAM_REJECTED, message="no", retryable=False)


class Rule:
    """A rule that says `operation:path[sample]`, or fails where told; keeps the steps it was given."""

    def __init__(self, *failing):
        self.failing = failing
        self.steps = {}

    async def __call__(self, step):
        assert step.operation.id not in self.steps, "visited twice"
        self.steps[step.operation.id] = step
        return [self.outcome(step.operation.id, target) for target in step.targets]

    def outcome(self, operation, target):
        name = operation if target.sample is None else f"{operation}[{target.sample}]"
        return FAILURE if name in self.failing else f"{name}:{target.position.path}"

    @property
    def visited(self):
        return set(self.steps)

    def received(self, operation, sample=None):
        return [(output, said.gradient) for output, said in self.steps[operation].received[sample]]


def said(gradient, sample=None, **more):
    return Contribution(gradient, sample=sample, **more)


async def run(graph, seeds, wanted, rule=None):
    told = {
        id: [given if isinstance(given, Contribution) else said(given) for given in givens]
        for id, givens in seeds.items()
    }
    return await backward(graph, told, wanted, {"chat_completion": each(rule or Rule())})


def entries(result, id):
    return [(one.operation, one.input, one.sample) for one in result.contributions[id]]


def incomplete(result, id):
    return {one.sample: one.incomplete for one in result.contributions[id]}


FIRST = "messages/0/content/0"
SECOND = "messages/0/content/1"


# ---- who says what


async def test_feedback_on_an_output_reaches_the_input(graph_of):
    """One operation, one wanted input, one entry."""
    graph = graph_of({"a": "x", "b": "y"}, ("op", "a", "b"))
    rule = Rule()
    result = await run(graph, {"b": [said("shorter", feedback=("f1",))]}, ["a"], rule)
    assert result.contributions == {
        "a": (Contribution(f"op:{FIRST}", operation="op", input=FIRST, sample=None, feedback=("f1",)),)
    }
    assert rule.received("op") == [("b", "shorter")]
    assert result.failures == ()


async def test_a_diamond_gives_one_entry_for_each_way(graph_of):
    """A variable that two operations read hears from both, and from each once."""
    graph = graph_of(
        dict.fromkeys("abcde", "x"), ("ab", "a", "b"), ("bc", "b", "c"), ("cd", "c", "d"), ("de", "d a", "e")
    )
    rule = Rule()
    result = await run(graph, {"e": ["seed"]}, ["a"], rule)
    assert entries(result, "a") == [("ab", FIRST, None), ("de", SECOND, None)]
    assert rule.visited == {"ab", "bc", "cd", "de"}


async def test_a_variable_read_twice_by_one_operation_has_two_entries(graph_of):
    """Each position is asked about for itself, messages before inputs."""
    graph = graph_of({"a": "{x}", "b": "y"}, ("op", "a a", "b", {"inputs": {"x": "a"}}))
    result = await run(graph, {"b": ["seed"]}, ["a"])
    assert entries(result, "a") == [("op", FIRST, None), ("op", SECOND, None), ("op", "inputs/x", None)]


async def test_an_operation_hears_all_of_its_consumers_in_tape_order(graph_of):
    """Feedback on the output comes first, then its readers as they ran."""
    graph = graph_of(
        dict.fromkeys("abcde", "x"),
        ("one", "a", "b"),
        ("two", "b", "c"),
        ("three", "b", "d"),
        ("four", "b", "e"),
    )
    rule = Rule()
    await run(graph, {"e": ["E"], "d": ["D"], "c": ["C"], "b": ["direct 1", "direct 2"]}, ["a"], rule)
    assert [gradient for _, gradient in rule.received("one")] == [
        "direct 1",
        "direct 2",
        f"two:{FIRST}",
        f"three:{FIRST}",
        f"four:{FIRST}",
    ]


async def test_several_outputs_are_told_apart(graph_of):
    """Each criticism comes with the output it is about, in the order of the outputs."""
    graph = graph_of({"a": "x", "b": "y", "c": "z"}, ("op", "a", "b c"))
    rule = Rule()
    await run(graph, {"c": ["of c"], "b": ["of b"]}, ["a"], rule)
    assert rule.received("op") == [("b", "of b"), ("c", "of c")]


async def test_feedback_on_a_wanted_variable_is_an_entry_of_its_own(graph_of):
    """It is handed on as it was given, before what its readers say."""
    graph = graph_of({"a": "x", "b": "y"}, ("op", "a", "b"))
    direct = said("direct", feedback=("f1",))
    result = await run(graph, {"a": [direct], "b": ["seed"]}, ["a"])
    assert result.contributions["a"][0] == direct
    assert entries(result, "a") == [(None, None, None), ("op", FIRST, None)]


async def test_the_ids_of_the_feedback_behind_an_entry_are_kept_in_order(graph_of):
    """Each once, however many ways it came."""
    graph = graph_of(dict.fromkeys("abcd", "x"), ("one", "a", "b"), ("two", "b", "c"), ("three", "b", "d"))
    seeds = {
        "d": [said("D", feedback=("f2",))],
        "c": [said("C", feedback=("f1",)), said("C", feedback=("f2",))],
    }
    result = await run(graph, seeds, ["a"])
    assert result.contributions["a"][0].feedback == ("f1", "f2")


async def test_every_wanted_variable_is_a_key(graph_of):
    """Also one that no feedback reaches."""
    graph = graph_of({"a": "x", "b": "y", "far": "z"}, ("op", "a", "b"))
    assert (await run(graph, {"b": ["seed"]}, ["far", "a"])).contributions.keys() == {"far", "a"}


# ---- which operations run


@pytest.mark.parametrize(
    ("seeded", "wanted", "visited"),
    [
        ("f", "a", {"ab", "bc", "cf"}),
        ("f", "x", {"xc", "cf"}),
        ("f", "b", {"bc", "cf"}),
        ("f", "c", {"cf"}),
        ("f", "cc", {"cf"}),
        ("f", "f", set()),
        ("c", "a", {"ab", "bc"}),
        ("b", "c", set()),
        ("f", "side", set()),
        ("side", "a", {"ab", "bs"}),
        ("f", "", set()),
        ("fb", "a", {"ab", "bc", "cf"}),
        ("f", "ac", {"ab", "bc", "cf"}),
    ],
)
async def test_only_operations_between_wanted_and_feedback_run(graph_of, seeded, wanted, visited):
    """What feedback cannot reach, and what leads to nothing wanted, is not asked about."""
    graph = graph_of(
        dict.fromkeys(("a", "x", "b", "side", "c", "d", "f"), "x"),
        ("ab", "a", "b"),
        ("bs", "b", "side"),
        ("bc", "b", "c"),
        ("xc", "x", "d"),
        ("cf", "c d", "f"),
    )
    rule = Rule()
    wanted = ["side"] if wanted == "side" else list(wanted)
    seeded = ["side"] if seeded == "side" else list(seeded)
    await run(graph, {id: ["seed"] for id in seeded}, wanted, rule)
    assert rule.visited == visited


async def test_only_positions_that_lead_to_something_wanted_are_asked_about(graph_of):
    """The other inputs of an operation are context."""
    graph = graph_of(dict.fromkeys("abcd", "x"), ("one", "a", "b"), ("two", "b c", "d"))
    rule = Rule()
    await run(graph, {"d": ["seed"]}, ["a"], rule)
    assert [target.position.variable for target in rule.steps["two"].targets] == ["b"]


@pytest.mark.parametrize("stated", [True, False])
async def test_interior_variables_transmit_whether_or_not_they_require_a_gradient(graph_of, stated):
    """What a written variable states cuts nothing off."""
    graph = graph_of(
        {"a": {"data": "x", "requires_grad": stated}, "b": {"data": "y", "requires_grad": stated}, "c": "z"},
        ("one", "a", "b"),
        ("two", "b", "c"),
    )
    assert entries(await run(graph, {"c": ["seed"]}, ["a"]), "a") == [("one", FIRST, None)]


# ---- ways that lead out of the graph


def outside(**more):
    return {"data": "x", "producer": "gone", "requires_grad": True, **more}


@pytest.mark.parametrize("wanted", [["a"], []], ids=["a leaf", "nothing"])
async def test_a_way_that_leads_out_of_the_graph_is_refused(graph_of, wanted):
    """The refusal names the operation to join; a silent half of the gradients would be worse."""
    graph = graph_of({"e": outside(), "a": "x", "b": "y", "c": "z"}, ("one", "e a", "b"), ("two", "b", "c"))
    rule = Rule()
    with pytest.raises(Refused) as caught:
        await run(graph, {"c": ["seed"]}, wanted, rule)
    error = caught.value.error
    assert error.code == Code.INCOMPLETE_GRAPH
    assert error.details == {"variable": "e", "operation": "gone"}
    assert "'gone'" in error.message
    assert rule.visited == set()


async def test_feedback_on_a_variable_from_outside_is_refused_too(graph_of):
    """The operation that wrote it is the first on the way."""
    graph = graph_of({"e": outside(), "a": "x"})
    with pytest.raises(Refused, match="'gone'"):
        await run(graph, {"e": ["seed"]}, ["a"])


async def test_a_variable_from_outside_may_be_wanted(graph_of):
    """Naming it is a deliberate cut: the way ends there."""
    graph = graph_of({"e": outside(), "a": "x", "b": "y"}, ("op", "e a", "b"))
    result = await run(graph, {"b": ["seed"]}, ["e", "a"])
    assert entries(result, "e") == [("op", FIRST, None)]
    assert entries(result, "a") == [("op", SECOND, None)]


async def test_a_variable_from_outside_that_wants_no_gradient_is_a_leaf_like_any_other(graph_of):
    """Nothing behind it wants one."""
    graph = graph_of({"e": outside(requires_grad=False), "a": "x", "b": "y"}, ("op", "e a", "b"))
    assert entries(await run(graph, {"b": ["seed"]}, ["a"]), "a") == [("op", SECOND, None)]


async def test_a_variable_from_outside_that_feedback_does_not_reach_is_no_matter(graph_of):
    """It is not on the way."""
    graph = graph_of({"e": outside(), "a": "x", "b": "y", "c": "z"}, ("one", "a", "b"), ("two", "e", "c"))
    assert entries(await run(graph, {"b": ["seed"]}, ["a"]), "a") == [("one", FIRST, None)]


async def test_a_cut_at_an_interior_variable_does_not_ask_for_what_lies_behind_it(graph_of):
    """Nothing behind the cut runs, so nothing behind it is missing."""
    graph = graph_of({"e": outside(), "mid": "x", "b": "y"}, ("one", "e", "mid"), ("two", "mid", "b"))
    rule = Rule()
    result = await run(graph, {"b": ["seed"]}, ["mid"], rule)
    assert entries(result, "mid") == [("two", FIRST, None)]
    assert rule.visited == {"two"}


# ---- batches


BATCH = ["0", "1", "2"]


async def test_a_batched_output_gives_a_scalar_input_an_entry_for_each_item(graph_of):
    """B entries, index-aligned, never merged."""
    graph = graph_of({"sys": "s", "q": BATCH, "out": BATCH}, ("op", "sys q", "out"))
    seeds = {"out": [said(f"item {at}", at) for at in (2, 0, 1)]}
    rule = Rule()
    result = await run(graph, seeds, ["sys", "q"], rule)
    assert entries(result, "sys") == [("op", FIRST, at) for at in range(3)]
    assert entries(result, "q") == [("op", SECOND, at) for at in range(3)]
    assert [rule.received("op", at) for at in range(3)] == [[("out", f"item {at}")] for at in range(3)]


async def test_entries_go_by_position_before_sample(graph_of):
    """All items of one position, then those of the next."""
    graph = graph_of({"a": "{x}", "q": BATCH, "out": BATCH}, ("op", "a q", "out", {"inputs": {"x": "a"}}))
    result = await run(graph, {"out": ["seed"]}, ["a"])
    assert entries(result, "a") == [("op", path, at) for path in (FIRST, "inputs/x") for at in range(3)]


async def test_a_scalar_text_on_a_batched_output_applies_to_every_item(graph_of):
    """One criticism, one entry for each item."""
    graph = graph_of({"sys": "s", "q": BATCH, "out": BATCH}, ("op", "sys q", "out"))
    rule = Rule()
    result = await run(graph, {"out": ["all of you"]}, ["sys"], rule)
    assert entries(result, "sys") == [("op", FIRST, at) for at in range(3)]
    assert {rule.received("op", at)[0][1] for at in range(3)} == {"all of you"}


async def test_items_without_feedback_are_not_asked_about(graph_of):
    """Criticism of one item is no criticism of the others."""
    graph = graph_of({"sys": "s", "q": BATCH, "out": BATCH}, ("op", "sys q", "out"))
    result = await run(graph, {"out": [said("only you", 1)]}, ["sys", "q"])
    assert entries(result, "sys") == [("op", FIRST, 1)]


async def test_entries_of_all_items_on_a_scalar_interior_variable_make_one_step(graph_of):
    """The operation that wrote it ran once, so it is gone back through once and shown them all."""
    graph = graph_of({"a": "x", "s": "y", "q": BATCH, "out": BATCH}, ("one", "a", "s"), ("two", "s q", "out"))
    rule = Rule()
    result = await run(graph, {"out": ["seed"]}, ["a"], rule)
    assert rule.received("one") == [("s", f"two[{at}]:{FIRST}") for at in range(3)]
    assert entries(result, "a") == [("one", FIRST, None)]


async def test_items_stay_apart_through_a_chain_of_batches(graph_of):
    """What was said of one item goes back along that item alone."""
    graph = graph_of(
        {"a": "x", "q": BATCH, "mid": BATCH, "out": BATCH}, ("one", "a q", "mid"), ("two", "mid", "out")
    )
    rule = Rule()
    result = await run(graph, {"out": [said("one", 1), said("two", 2)]}, ["a"], rule)
    assert entries(result, "a") == [("one", FIRST, 1), ("one", FIRST, 2)]
    assert rule.received("one", 1) == [("mid", f"two[1]:{FIRST}")]


async def test_a_list_of_ids_gives_each_variable_the_entry_of_its_item(graph_of):
    """An item reads one of them and says nothing of the others."""
    graph = graph_of(
        {"q": "{x}", "a": "A", "b": "B", "out": ["0", "1", "2"]},
        ("op", "q", "out", {"inputs": {"x": ["a", "b", "a"]}}),
    )
    result = await run(graph, {"out": ["seed"]}, ["a", "b"])
    assert entries(result, "a") == [("op", "inputs/x", 0), ("op", "inputs/x", 2)]
    assert entries(result, "b") == [("op", "inputs/x", 1)]


async def test_a_batch_of_one_is_a_batch(graph_of):
    """Its only item is item 0."""
    graph = graph_of({"sys": "s", "q": ["0"], "out": ["0"]}, ("op", "sys q", "out"))
    assert entries(await run(graph, {"out": ["seed"]}, ["sys"]), "sys") == [("op", FIRST, 0)]


async def test_an_item_that_failed_in_the_forward_pass_has_nothing_to_criticise(graph_of):
    """A null output is skipped, whatever was said of the whole batch."""
    graph = graph_of({"sys": "s", "q": BATCH, "out": ["0", None, "2"]}, ("op", "sys q", "out"))
    result = await run(graph, {"out": ["all of you", said("and you", 1)]}, ["sys"])
    assert entries(result, "sys") == [("op", FIRST, 0), ("op", FIRST, 2)]
    assert result.failures == ()
    assert incomplete(result, "sys") == {0: False, 2: False}


async def test_a_choice_that_is_missing_for_one_item_is_not_criticised_there(graph_of):
    """Where one of several outputs is null the others still are heard."""
    graph = graph_of({"sys": "s", "q": ["0", "1"], "b": ["0", "1"], "c": ["0", None]}, ("op", "sys q", "b c"))
    rule = Rule()
    await run(graph, {"b": ["of b"], "c": ["of c"]}, ["sys"], rule)
    assert rule.received("op", 0) == [("b", "of b"), ("c", "of c")]
    assert rule.received("op", 1) == [("b", "of b")]


# ---- failures


async def test_a_failure_is_told_and_is_no_entry(graph_of):
    """What could not be computed is listed with variable, operation, sample and error."""
    graph = graph_of({"a": "x", "b": "y"}, ("op", "a", "b"))
    result = await run(graph, {"b": ["seed"]}, ["a"], Rule("op"))
    assert result.contributions == {"a": ()}
    assert result.failures == (Failed("a", "op", None, FAILURE),)


async def test_an_operation_with_a_failed_consumer_runs_on_what_arrived(graph_of):
    """And what comes of it says that something is missing, all the way down."""
    graph = graph_of(
        dict.fromkeys("zabcd", "x"),
        ("zero", "z", "a"),
        ("one", "a", "b"),
        ("two", "b", "c"),
        ("three", "b", "d"),
    )
    rule = Rule("two")
    result = await run(graph, {"c": ["C"], "d": ["D"]}, ["z", "a", "b"], rule)
    assert rule.received("one") == [("b", f"three:{FIRST}")]
    assert [incomplete(result, id) for id in "zab"] == [{None: True}, {None: True}, {None: False}]
    assert [(failure.variable, failure.operation) for failure in result.failures] == [("b", "two")]


async def test_a_variable_with_only_failed_contributions_has_no_entry(graph_of):
    """Nor has anything behind it: its operation has nothing to go on."""
    graph = graph_of(dict.fromkeys("abcd", "x"), ("one", "a", "b"), ("two", "b", "c"), ("three", "b", "d"))
    rule = Rule("two", "three")
    result = await run(graph, {"c": ["C"], "d": ["D"]}, ["a", "b"], rule)
    assert result.contributions == {"a": (), "b": ()}
    assert "one" not in rule.visited or rule.steps["one"].targets == ()
    assert [failure.operation for failure in result.failures] == ["two", "three"]


async def test_what_is_missing_is_remembered_through_operations_that_had_nothing_to_go_on(graph_of):
    """A gap two operations up still makes an entry incomplete."""
    graph = graph_of(
        dict.fromkeys("abcde", "x"),
        ("base", "a", "b"),
        ("left", "b", "c"),
        ("lost", "c", "d"),
        ("right", "b", "e"),
    )
    result = await run(graph, {"d": ["D"], "e": ["E"]}, ["a"], Rule("lost"))
    assert incomplete(result, "a") == {None: True}


async def test_a_failed_item_fails_alone(graph_of):
    """The other items of the batch have their entries, and are complete."""
    graph = graph_of(
        {"sys": "s", "q": BATCH, "mid": BATCH, "out": BATCH}, ("one", "sys q", "mid"), ("two", "mid", "out")
    )
    result = await run(graph, {"out": ["seed"]}, ["sys"], Rule("two[1]"))
    assert incomplete(result, "sys") == {0: False, 2: False}
    assert result.failures == (Failed("mid", "two", 1, FAILURE),)


async def test_a_failed_item_makes_what_is_said_of_that_item_incomplete(graph_of):
    """Where something else was said of the same item, the entry knows what it lacks."""
    graph = graph_of(
        {"sys": "s", "q": BATCH, "mid": BATCH, "out": BATCH}, ("one", "sys q", "mid"), ("two", "mid", "out")
    )
    result = await run(graph, {"out": ["seed"], "mid": ["direct"]}, ["sys"], Rule("two[1]"))
    assert incomplete(result, "sys") == {0: False, 1: True, 2: False}


async def test_a_failed_item_makes_a_scalar_operation_behind_it_incomplete(graph_of):
    """It is shown the items that came back, and says that one did not."""
    graph = graph_of({"a": "x", "s": "y", "q": BATCH, "out": BATCH}, ("one", "a", "s"), ("two", "s q", "out"))
    rule = Rule("two[1]")
    result = await run(graph, {"out": ["seed"]}, ["a"], rule)
    assert len(rule.received("one")) == 2
    assert incomplete(result, "a") == {None: True}


async def test_incomplete_feedback_stays_incomplete(graph_of):
    """An entry inherits what the criticism behind it lacked."""
    graph = graph_of({"a": "x", "b": "y"}, ("op", "a", "b"))
    result = await run(graph, {"b": [said("seed", incomplete=True)]}, ["a"])
    assert incomplete(result, "a") == {None: True}


async def test_failures_are_in_tape_order(graph_of):
    """Whatever failed first in time."""
    graph = graph_of(dict.fromkeys("abcde", "x"), *((f"op{id}", "a", id) for id in "bcde"))

    class Late(Rule):
        async def __call__(self, step):
            for _ in range(10 - "bcde".index(step.operation.id[-1])):
                await asyncio.sleep(0)
            return await super().__call__(step)

    rule = Late("opb", "opc", "opd", "ope")
    result = await run(graph, {id: ["seed"] for id in "bcde"}, ["a"], rule)
    assert [failure.operation for failure in result.failures] == ["opb", "opc", "opd", "ope"]


# ---- time


async def test_all_operations_that_are_ready_run_at_once(graph_of):
    """The wavefront is as wide as the graph: each branch waits until all have come."""
    width = 16
    graph = graph_of(
        {
            "a": "x",
            **{f"b{at}": "x" for at in range(width)},
            **{f"c{at}": "x" for at in range(width)},
            "d": "x",
        },
        *((f"one{at}", "a", f"b{at}") for at in range(width)),
        *((f"two{at}", f"b{at}", f"c{at}") for at in range(width)),
        ("loss", " ".join(f"c{at}" for at in range(width)), "d"),
    )
    barriers = {"one": asyncio.Barrier(width), "two": asyncio.Barrier(width), "loss": asyncio.Barrier(1)}

    class Meeting(Rule):
        async def __call__(self, step):
            await barriers[step.operation.id.rstrip("0123456789")].wait()
            return await super().__call__(step)

    async with asyncio.timeout(10):
        result = await run(graph, {"d": ["seed"]}, ["a"], Meeting())
    assert entries(result, "a") == [(f"one{at}", FIRST, None) for at in range(width)]


async def test_a_fast_branch_does_not_wait_for_a_slow_one(graph_of):
    """There are no rounds: an operation runs when its own consumers are done."""
    graph = graph_of(
        dict.fromkeys(("a", "b", "c", "d", "e"), "x"),
        ("slow", "a", "b"),
        ("fast1", "a", "c"),
        ("fast2", "c", "d"),
    )
    through = asyncio.Event()

    class Uneven(Rule):
        async def __call__(self, step):
            if step.operation.id == "slow":
                await through.wait()
            if step.operation.id == "fast1":
                through.set()
            return await super().__call__(step)

    async with asyncio.timeout(10):
        await run(graph, {"b": ["B"], "d": ["D"]}, ["a"], Uneven())


async def test_what_is_known_of_one_input_does_not_wait_for_another(graph_of):
    """Each gradient goes on as soon as it is there, also where its operation still works on the next."""
    graph = graph_of(dict.fromkeys("abxyz", "x"), ("one", "a", "b"), ("two", "x", "y"), ("last", "b y", "z"))
    gone_on = asyncio.Event()

    def rule(step):
        if step.operation.id == "one":
            gone_on.set()

        async def outcome(target):
            if target.position.variable == "y":
                await gone_on.wait()
            return target.position.variable

        return [outcome(target) for target in step.targets]

    async with asyncio.timeout(10):
        result = await backward(graph, {"z": [said("seed")]}, ["a", "x"], {"chat_completion": rule})
    assert (entries(result, "a"), entries(result, "x")) == ([("one", FIRST, None)], [("two", FIRST, None)])


async def test_an_operation_runs_only_when_all_its_consumers_are_done(graph_of):
    """It is asked once, with everything there is."""
    graph = graph_of(dict.fromkeys("abcd", "x"), ("one", "a", "b"), ("quick", "b", "c"), ("slow", "b", "d"))
    done = []

    class Uneven(Rule):
        async def __call__(self, step):
            for _ in range(20 if step.operation.id == "slow" else 0):
                await asyncio.sleep(0)
            done.append(step.operation.id)
            return await super().__call__(step)

    await run(graph, {"c": ["C"], "d": ["D"]}, ["a"], Uneven())
    assert done == ["quick", "slow", "one"]


async def test_a_chain_of_five_thousand_operations_does_not_recurse(graph_of):
    """A long tape is an ordinary input."""
    length = 5000
    graph = graph_of(
        {str(at): "x" for at in range(length + 1)},
        *((f"op{at}", str(at), str(at + 1)) for at in range(length)),
    )
    rule = Rule()
    result = await run(graph, {str(length): ["seed"]}, ["0"], rule)
    assert entries(result, "0") == [("op0", FIRST, None)]
    assert len(rule.visited) == length
