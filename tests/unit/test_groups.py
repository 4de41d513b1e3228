"""How a batch is divided where it is too much for one prompt."""

import math
import re
import sys
import time
from itertools import pairwise

import pytest

from backward_worker.ranges import ranges_of
from backward_worker.tokens import estimated

SAMPLE = re.compile(r"^## Sample (\d+)$", re.MULTILINE)


def wanted(data):
    return {"data": data, "requires_grad": True}


def samples_in(body):
    return [int(number) for number in SAMPLE.findall(body["messages"][-1]["content"])]


def tokens_of(body):
    return sum(estimated(message["content"]) for message in body["messages"])


@pytest.fixture
def batch_of(graph_of):
    """Return the maker of a call for a batch of questions with so many words."""

    def build(words, **more):
        return graph_of(
            {
                "sys": wanted("Be kind."),
                "q": [f"question {at}: " + "word " * count for at, count in enumerate(words)],
                "out": [f"answer {at}" for at in range(len(words))],
                **more,
            },
            ("op", "sys q", "out"),
        )

    return build


@pytest.mark.parametrize(
    ("sizes", "common", "room", "expected"),
    [
        ([5], 0, 10, [(0, 1)]),
        ([50], 0, 10, [(0, 1)]),
        ([5, 5], 0, 10, [(0, 2)]),
        ([5, 5], 1, 10, [(0, 1), (1, 2)]),
        ([1] * 9, 0, 9, [(0, 9)]),
        ([1] * 9, 0, 8, [(0, 3), (3, 6), (6, 9)]),
        ([1] * 10, 0, 9, [(0, 2), (2, 5), (5, 8), (8, 10)]),
        ([9] * 3, 0, 10, [(0, 1), (1, 2), (2, 3)]),
    ],
    ids=str,
)
def test_a_batch_that_fits_is_one_group_and_else_about_its_square_root(sizes, common, room, expected):
    """As even as can be, in the order of the samples."""
    assert [tuple(one) for one in ranges_of(sizes, common, room)] == expected


@pytest.mark.parametrize("count", [1, 2, 3, 10, 33, 100, 257])
@pytest.mark.parametrize("room", [1, 40, 300, 10_000])
def test_every_sample_is_in_one_group(count, room):
    """None is left out and none stands twice."""
    ranges = ranges_of([(at * 7) % 23 + 1 for at in range(count)], 3, room)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == count
    assert all(one[1] == other[0] for one, other in pairwise(ranges))
    assert all(start < stop for start, stop in ranges)


def test_one_sample_that_is_too_long_does_not_divide_the_others():
    """It is cut, or stands alone; a hundred samples are still about ten groups."""
    sizes = [20] * 100
    sizes[3] = 50_000
    assert len(ranges_of(sizes, 100, 20_000)) <= 2 * math.isqrt(100)


def test_a_large_batch_is_divided_in_no_time():
    """Also where every sample is as much as a prompt takes."""
    begun = time.process_time()
    assert len(ranges_of([200] * 4000, 0, 250)) == 4000
    assert time.process_time() - begun < 0.5


async def test_a_long_batch_is_asked_in_groups_and_merged(scripted, go_back, batch_of):
    """Sixteen samples that do not fit: four groups, and one question that makes one of what they say."""
    model = scripted(*(f"said {at}" for at in range(4)), "all of it")
    policy = {"batch": "digest", "prompt_tokens": 3000}
    answer = await go_back(model, batch_of([200] * 16), ("out", "Too long."), policy=policy)
    assert [samples_in(body) for body in model.bodies[:4]] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]
    merged = model.bodies[4]["messages"][-1]["content"]
    assert all(f">\nsaid {at}\n<" in merged for at in range(4))
    assert merged.count("From 4 samples of a batch") == 4
    assert "Be kind." in merged
    (entry,) = answer.gradients["sys"]
    assert (entry.text, entry.how, entry.sample, entry.incomplete) == ("all of it", "merged", None, False)
    assert [(call.purpose, call.part) for call in answer.calls] == [
        ("ask", 0),
        ("ask", 1),
        ("ask", 2),
        ("ask", 3),
        ("merge", 0),
    ]
    assert all(tokens_of(body) <= 3000 for body in model.bodies)


async def test_every_group_tells_how_many_there_are_elsewhere(scripted, go_back, batch_of):
    """What it counts adds up to the batch."""
    model = scripted("x")
    policy = {"batch": "digest", "prompt_tokens": 2000}
    texts = ["", *["Too long."] * 16, ""]
    await go_back(model, batch_of([200] * 18), ("out", texts), policy=policy)
    asked = [body for body in model.bodies if samples_in(body)]
    assert sorted(at for body in asked for at in samples_in(body)) == list(range(1, 17))
    for number, body in enumerate(asked):
        shown, prompt = len(samples_in(body)), body["messages"][-1]["content"]
        assert f"Part {number + 1} of {len(asked)}. Of these samples, {shown} shown here, " in prompt
        assert f"{16 - shown} shown elsewhere, 2 had nothing to criticise." in prompt


async def test_a_group_with_nothing_to_say_leaves_it_to_the_others(scripted, go_back, batch_of):
    """What one group says alone is not asked about again."""
    model = scripted("NO FEEDBACK", "said", "NO FEEDBACK", "NO FEEDBACK")
    policy = {"batch": "digest", "prompt_tokens": 3000}
    answer = await go_back(model, batch_of([200] * 16), ("out", "Too long."), policy=policy)
    (entry,) = answer.gradients["sys"]
    assert (entry.text, entry.incomplete, answer.usage["calls"]) == ("said", False, 4)


async def test_one_long_message_does_not_cost_a_call_for_every_sample(scripted, go_back, batch_of):
    """It is cut, like any message that does not fit; the others are digested as ever."""
    words = [5] * 100
    words[3] = 40_000
    model = scripted("x")
    await go_back(model, batch_of(words), ("out", "Too long."), policy={"batch": "digest"})
    assert len(model.bodies) <= 25


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
@pytest.mark.parametrize("count", [1, 12])
async def test_no_prompt_passes_its_tokens_where_only_material_is_long(
    scripted, go_back, batch_of, always, batch, calls, count
):
    """Long messages are cut in their middle, and marked."""
    model = scripted(always("x"))
    policy = {"batch": batch, "calls": calls, "prompt_tokens": 3000}
    graph = batch_of([8000] * count)
    await go_back(model, graph, ("out", "Too long."), policy=policy)
    assert all(tokens_of(body) <= 3000 for body in model.bodies)
    shown = [body["messages"][-1]["content"] for body in model.bodies if "Sample" in str(body) or count]
    assert all("characters left out" in prompt for prompt in shown[:1])


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
async def test_no_prompt_about_all_inputs_passes_its_tokens(scripted, go_back, graph_of, always, batch):
    """Each text that is asked about stands at the end once more; the messages make room for them."""
    ids = [f"v{at}" for at in range(8)]
    graph = graph_of(
        {**{id: wanted("word " * 1600) for id in ids}, "q": ["0", "1"], "out": ["a", "b"]},
        ("op", " ".join(ids) + " q", "out"),
    )
    model = scripted(always("x"))
    policy = {"batch": batch, "calls": "per_operation", "prompt_tokens": 24_000}
    await go_back(model, graph, ("out", "Too long."), policy=policy)
    assert all(tokens_of(body) <= 24_000 for body in model.bodies)


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
async def test_the_text_asked_about_is_never_cut(scripted, go_back, graph_of, always, batch):
    """However small the prompts are to be."""
    text = "".join(f"{at} " for at in range(3000))
    graph = graph_of(
        {"sys": wanted(text), "q": ["0", "1"], "out": ["word " * 3000, "b"]}, ("op", "sys q", "out")
    )
    model = scripted(always("x"))
    policy = {"batch": batch, "prompt_tokens": 1000}
    await go_back(model, graph, ("out", "Too long."), policy=policy)
    for body in model.bodies:
        assert f'kind="variable">\n{text}\n<' in body["messages"][-1]["content"]
    assert "characters left out" in model.prompts[0]


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
@pytest.mark.parametrize("shape", ["shared", "aligned", "list of ids"])
async def test_the_work_grows_with_the_batch_and_not_with_its_square(
    scripted, go_back, graph_of, always, batch, shape
):
    """Four times the samples are about four times the work."""

    def graph(count):
        out = [f"o{at}" for at in range(count)]
        if shape == "list of ids":
            ids = {f"v{at}": wanted(f"t{at}") for at in range(count)}
            return graph_of({**ids, "s": "s", "out": out}, ("op", "s", "out", {"inputs": {"x": list(ids)}}))
        q = [f"q{at}" for at in range(count)]
        grads = {"sys": wanted("s"), "q": q} if shape == "shared" else {"sys": "s", "q": wanted(q)}
        return graph_of({**grads, "out": out}, ("op", "sys q", "out"))

    async def effort(count):
        """Return how many functions were called to answer."""
        made, model, called = graph(count), scripted(always("x")), 0

        def count_one(frame, event, arg):
            nonlocal called
            called += event == "call"

        sys.setprofile(count_one)
        try:
            answer = await go_back(model, made, ("out", "Bad."), policy={"batch": batch})
        finally:
            sys.setprofile(None)
        assert answer.status == "completed"
        return called

    await effort(10)
    assert await effort(600) < 4.6 * await effort(150)
