"""One gradient of what a batch shares, also where its items were done by several calls."""

import asyncio

import pytest

from backtalk.wire.codec import encode
from backtalk.wire.errors import Code, Refused, Unavailable

DIGEST = {"batch": "digest"}
DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")


def is_merger(body):
    return "you make one feedback of theirs" in body["messages"][0]["content"]


def shows(body, text):
    return f">\n{text}\n<" in body["messages"][-1]["content"]


async def test_parts_of_a_batch_are_one_entry_named_by_what_put_them_together(scripted, go_back, halves):
    """Each part is asked about, and what they say is merged."""
    model = scripted(lambda body: "both" if is_merger(body) else "x")
    answer = await go_back(model, halves(), ("all", "Bad."), policy=DIGEST)
    (entry,) = answer.gradients["sys"]
    assert (entry.operation, entry.sample, entry.text, entry.how) == ("whole", None, "both", "merged")
    assert entry.feedback == ("feedback/0",)
    assert [(call.purpose, call.operation) for call in answer.calls] == [
        ("ask", "part0"),
        ("ask", "part1"),
        ("merge", "whole"),
    ]
    assert answer.status == "completed"


async def test_without_digest_every_sample_keeps_its_entry(scripted, go_back, halves):
    """Parts are an affair of the program's."""
    answer = await go_back(scripted("x"), halves(), ("all", "Bad."))
    assert [(one.operation, one.sample) for one in answer.gradients["sys"]] == [
        ("part0", 0),
        ("part0", 1),
        ("part1", 0),
        ("part1", 1),
    ]


async def test_samples_of_the_parts_stay_by_themselves(scripted, go_back, halves, always):
    """Only what is shared is merged."""
    model = scripted(lambda body: "both" if is_merger(body) else always("x")(body))
    answer = await go_back(model, halves(wanted=("sys", "q0", "q1")), ("all", "Bad."), policy=DIGEST)
    for at in range(2):
        assert [(one.operation, one.sample) for one in answer.gradients[f"q{at}"]] == [
            (f"part{at}", 0),
            (f"part{at}", 1),
        ]


async def test_a_part_with_nothing_to_say_leaves_it_to_the_others(scripted, go_back, halves):
    """One voice is not merged with silence."""
    model = scripted("x")
    answer = await go_back(model, halves(), ("all", ["Bad.", "", "", ""]), policy=DIGEST)
    (entry,) = answer.gradients["sys"]
    assert (entry.operation, entry.text) == ("whole", "x")
    assert answer.usage["calls"] == 1


async def test_parts_with_nothing_to_say_are_empty_together(scripted, go_back, halves):
    """One entry, and no call."""
    answer = await go_back(scripted("never asked"), halves(), ("all", ""), policy=DIGEST)
    assert [(one.operation, one.text, one.how) for one in answer.gradients["sys"]] == [("whole", "", "empty")]
    assert answer.usage == {"calls": 0}


async def test_a_single_value_is_a_part_as_well(scripted, go_back, halves):
    """Of a batch that was done in a batch of two and one alone."""
    model = scripted(lambda body: "both" if is_merger(body) else "x")
    answer = await go_back(model, halves((2, None)), ("all", "Bad."), policy=DIGEST)
    assert [(one.operation, one.sample, one.text) for one in answer.gradients["sys"]] == [
        ("whole", None, "both")
    ]


@pytest.mark.parametrize("count", [2, 3])
async def test_a_part_that_failed_leaves_an_incomplete_entry_and_a_failure(scripted, go_back, halves, count):
    """What the others say is the gradient, and its reader knows that it is not all."""

    def reply(body):
        return DOWN if shows(body, "answer 0.0") else "x"

    answer = await go_back(scripted(reply), halves((2,) * count), ("all", "Bad."), policy=DIGEST)
    assert [(one.variable, one.operation) for one in answer.failures] == [("sys", "part0")]
    assert [one.incomplete for one in answer.gradients["sys"]] == [True]
    assert answer.status == "partial"


async def test_parts_that_cannot_be_merged_are_kept_and_the_failure_told(scripted, go_back, halves):
    """One behind the other."""
    model = scripted(lambda body: DOWN if is_merger(body) else "x")
    answer = await go_back(model, halves(), ("all", "Bad."), policy=DIGEST)
    assert [one.text for one in answer.gradients["sys"]] == ["x\nx"]
    assert [(one.variable, one.operation, one.error.code) for one in answer.failures] == [
        ("sys", "whole", Code.UPSTREAM_UNAVAILABLE)
    ]
    assert answer.status == "partial"


async def test_what_was_passed_on_without_a_call_is_not_a_failure(scripted, go_back, halves):
    """Where no model ran and none is named, what was copied stands as it is."""
    model = scripted("never asked")
    answer = await go_back(model, halves(op="add"), ("all", "Bad."), policy=DIGEST)
    assert answer.failures == ()
    assert all("Bad." in one.text for one in answer.gradients["sys"])


async def test_failures_stand_in_an_order_of_their_own(scripted, go_back, halves, graph_of):
    """Not in that in which the replies came."""
    graph = halves(wanted=("sys",))
    both = graph.model_dump(mode="json")
    both["variables"].insert(0, {"id": "more", "data": "M", "role": "more", "requires_grad": True})
    for operation in both["operations"][:2]:
        operation["messages"][0]["content"].append("more")
    graph = type(graph).model_validate(both)

    class Slow(scripted):
        slow = None

        async def complete(self, endpoint, body, listener=None, *, place):
            if is_merger(body):
                for _ in range(20 if shows(body, self.slow) else 1):
                    await asyncio.sleep(0)
                raise Refused(Code.UPSTREAM_REJECTED, "no")
            return await super().complete(endpoint, body, listener, place=place)

    answers = []
    for slow in ("S", "M"):
        model = Slow("x")
        model.slow = slow
        answers.append(encode(await go_back(model, graph, ("all", "Bad."), policy=DIGEST)))
    assert answers[0] == answers[1]
